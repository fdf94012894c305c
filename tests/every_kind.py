"""A past that leaves every kind of event in the log, in steps of one and of several actions."""

from given import (
    B2B,
    CARE,
    STRICT,
    amend,
    assign,
    attributes,
    complete,
    define,
    disqualify,
    euro,
    expect,
    log,
    lose,
    merge,
    move,
    opening,
    redefine,
    reopen,
    retract,
    revalue,
    transfer,
    win,
)

from dealtrail.store.forgetting import use_keys

LEADS = define(
    "new",
    pipeline="leads",
    reasons={"lost": ["Price", "Timing"]},
    assignment={"rule": "round_robin", "owners": [{"owner": "anna"}, {"owner": "bob"}]},
)
PAST = [
    [B2B],
    [CARE | {"entry": ["intake"], "skip": [], "back": ["intake", "service"]}],
    [
        opening(
            2, owner="anna", value=euro("12.50"), title="Zoë's deal", id="o-1", by="anna", attributes={"vip": True}
        ),
        opening(2, deal="E", personal={"phone": "+31 6"}),
    ],
    [
        move(3, "qualified", id="m-1"),
        revalue(4, 90),
        assign(4, "bob"),
        expect(4, "2026-05-01"),
        attributes(4, size=2.5),
    ],
    [log(5, note="called\nagain")],
    [opening(5, deal="F"), lose(6, deal="F", reason="price"), reopen(7, deal="F"), disqualify(8, deal="F")],
    [transfer(8, deal="E")],
    [opening(8, deal="G"), merge(9, deal="G", into="E")],
    [redefine(10, "lead", "won-over", moves={"qualified": "lead", "proposal": "won-over"})],
    [amend(3, value=euro("91.05"), id="a-1", by="carl")],
    [retract(7)],
    [win(20)],
    [STRICT | {"pipeline": "strict"}],
    [opening(21, "strict", deal="H"), complete(22, "call", deal="H")],
    [LEADS],
    [opening(22, "leads", deal="K"), opening(22, "leads", deal="L"), lose(23, deal="K", reason="Price")],
]


class TheirKeys:
    """The keys of a host that has one for all subjects."""

    def __init__(self):
        self.held = set()

    def get(self, log, subjects):
        return dict.fromkeys(self.held & set(subjects), bytes(32))

    def make(self, log, subjects):
        self.held |= set(subjects)
        return dict.fromkeys(subjects, bytes(32))

    def destroy(self, log, subjects):
        gone = self.held & set(subjects)
        self.held -= gone
        return len(gone)


def forget_somebody(trail):
    """What goes on behind that past once there are keys: one text that can be read with them, one whose key is gone."""
    use_keys(trail._log, TheirKeys())
    trail.record_all(
        [opening(23, deal="I", title="Ivo's deal"), opening(23, deal="J", subject="jo", title="Jo's deal")]
    )
    trail.forget("jo", by="anna", reason="asked for it")
