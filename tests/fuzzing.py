"""A run of the fuzzers, in a process of its own: little memory, a seed, and a bell that rings where a call hangs.

    python tests/fuzzing.py FOLDER SEED TARGET=INPUTS...          draws from the seed
    python tests/fuzzing.py FOLDER SEED --atheris TARGET=INPUTS   lets atheris look for new ways through the code

It prints what came of it as JSON, and ends with 1 at the first input that does what none may.
"""

import json
import os
import resource
import signal
import sys
import traceback
from collections import Counter
from itertools import islice
from random import Random
from time import perf_counter, process_time

MEMORY_BYTES = 1 << 30
# Of the processor's own time, so that a busy machine rings no bell. An input takes a few milliseconds.
HANG_SECONDS = 10
_STORE_INPUTS = 2_000


class Hang(BaseException):
    """A call that did not come back."""


def _ring(*_):
    raise Hang(f"no answer after {HANG_SECONDS} s of the processor's time")


class Bug(Exception):
    """An input that does what none may."""


class Structured:
    """Actions and questions, on a trail that is made anew before its deals grow old."""

    def __init__(self, random):
        from hostile import Hostile

        self.random, self.make = random, Hostile
        self.left = self.made = 0
        self.trail = None

    def renew(self):
        """A trail with a past, and reports about it."""
        from given import B2B, CARE, move, opening, redefine
        from hostile import NOW

        from dealtrail import KeyFile, Trail

        if self.trail is not None:
            self.trail.close()
        self.hostile = self.make(self.random)
        self.made += 1
        keys = KeyFile(f"keys-{self.made}", bytes(32)) if self.made % 3 == 0 else None
        self.trail = Trail.open(":memory:", clock=lambda: NOW, keys=keys)
        past = [B2B, CARE, *(opening(5, deal=f"D{n}", value={"amount": "10", "currency": "EUR"}) for n in range(5))]
        self.trail.record_all([*past, move(9, "proposal", deal="D1"), redefine(30, "lead", "qualified", "proposal")])
        self.hostile.reports = [
            self.trail.pipeline_report("b2b", group_by="owner"),
            self.trail.funnel_report("b2b", cohort="2026", within=90),
            self.trail.conformance("b2b", cohort="2026"),
            self.trail.next_actions("b2b"),
            self.trail.closing_report("b2b"),
        ]
        self.left = _STORE_INPUTS

    def head(self):
        """The end of the log."""
        with self.trail._log.reading() as reading:
            return reading.head()

    def draw(self, target):
        """An action, or the name of a method with what it is given."""
        from hostile import questions

        if not self.left:
            self.renew()
        self.left -= 1
        if target == "action":
            return self.hostile.action()
        name = self.random.choice(sorted(questions()))
        return name, *self.hostile.question(name)

    def feed(self, target, drawn):
        """Record it or ask it; what is refused must leave the log as it was."""
        from dealtrail import DealtrailError

        before = self.head()
        try:
            if target == "action":
                self.trail.record(drawn)
            else:
                method, by_place, by_name = drawn
                asked = self.trail.acting("anna") if self.random.random() < 0.1 else self.trail
                found = getattr(asked, method)(*by_place, **by_name)
                if hasattr(found, "__next__"):
                    list(islice(found, 20))
        except DealtrailError:
            if self.head() != before:
                raise Bug("a refusal changed the log") from None
            raise


def run(folder, seed, wanted):
    """Feed each target so many inputs; the figures."""
    from hostile_bytes import Targets, corpus, spoilt

    from dealtrail import DealtrailError

    os.chdir(folder)
    random = Random(seed)
    structured, targets = Structured(random), Targets()
    figures = {}
    for target, inputs in wanted.items():
        codes, slowest, begun = Counter(), (0.0, ""), perf_counter()
        known = None if target in ("action", "question") else corpus(target)
        for number in range(inputs):
            if known is None:
                drawn = structured.draw(target)
            else:  # what is sensible first as it is
                drawn = known[number] if number < len(known) else spoilt(random, random.choice(known), known)
            started = process_time()
            signal.setitimer(signal.ITIMER_PROF, HANG_SECONDS)
            try:
                code = structured.feed(target, drawn) if known is None else targets.all[target](drawn)
                codes[code or "accepted"] += 1
            except DealtrailError as refusal:
                str(refusal).encode()
                if len(refusal.message) > 1_000:
                    raise Bug(f"a message of {len(refusal.message)} characters for {drawn!r}"[:3000]) from None
                codes[refusal.code] += 1
            except BaseException as bug:
                traceback.print_exc(limit=-12)
                raise Bug(f"{target}: {type(bug).__name__} for {_shown(drawn)}") from None
            finally:
                signal.setitimer(signal.ITIMER_PROF, 0)
            took = process_time() - started
            if took > slowest[0]:
                slowest = (took, _shown(drawn)[:300])
        figures[target] = {
            "inputs": inputs,
            "seconds": round(perf_counter() - begun, 1),
            "codes": dict(codes.most_common()),
            "slowest": round(slowest[0], 3),
            "slowest_input": slowest[1],
        }
    return figures


def _shown(drawn):
    try:
        return ascii(drawn)[:3_000]
    except (ValueError, RecursionError):  # a number too long to be written, or a thing too deep
        return f"a {type(drawn).__name__} that cannot be shown"


def atheris_run(folder, seed, target, inputs):
    """Let atheris feed one target. It ends the process itself, with a status other than 0 where it finds something."""
    import atheris

    with atheris.instrument_imports(include=["dealtrail", "tomllib"]):
        from hostile_bytes import Targets, corpus

        from dealtrail import DealtrailError
    os.chdir(folder)
    feed = Targets().all[target]
    os.makedirs("corpus", exist_ok=True)
    for number, data in enumerate(corpus(target)):
        with open(f"corpus/{number}", "wb") as file:
            file.write(data)

    def one(data):
        try:
            feed(data)
        except DealtrailError as refusal:
            str(refusal).encode()

    options = [f"-runs={inputs}", f"-seed={seed}", "-max_len=4096", f"-timeout={HANG_SECONDS}", "-rss_limit_mb=1024"]
    atheris.Setup([sys.argv[0], *options, "-print_final_stats=1", "corpus"], one)
    atheris.Fuzz()


def main():
    """What the command line says."""
    folder, seed, *rest = sys.argv[1:]
    wanted = dict(word.split("=") for word in rest if not word.startswith("--"))
    if "--atheris" in rest:
        ((target, inputs),) = wanted.items()
        atheris_run(folder, int(seed), target, int(inputs))
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGPROF, _ring)
    try:
        print(json.dumps(run(folder, int(seed), {target: int(inputs) for target, inputs in wanted.items()})))
    except Bug as bug:
        sys.exit(str(bug))


if __name__ == "__main__":
    main()
