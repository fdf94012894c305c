"""Files that have no end, or that unpack to more than anybody has room for: refused, and in little memory."""

import gzip
import json
import resource
import subprocess
import sys

import pytest
from hostile_bytes import MAPPING
from shop import PAST

from dealtrail import DealtrailError
from dealtrail.domain.texts import parse_toml
from dealtrail.importing import Mapping
from dealtrail.importing.rows import MAX_LINE_BYTES

MEMORY_BYTES = 640 << 20
MIB = 1 << 20
OPEN = json.dumps({"action": "open_deal", "pipeline": "b2b", "deal": "D-4", "at": "2025-04-01T09:00:00Z"}).encode()


@pytest.fixture
def run(shop):
    """The command line on a store, in a process that has little memory."""

    def in_little_memory(*words, stdin=None):
        def limit():
            resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))

        command = [sys.executable, "-m", "dealtrail", "--db", str(shop.path), *map(str, words)]
        with open(stdin or "/dev/null", "rb") as file:
            return subprocess.run(command, stdin=file, capture_output=True, text=True, preexec_fn=limit, timeout=300)

    return in_little_memory


def packed(path, piece, count, first=b""):
    """A gzipped file of a piece, over and over; what is packed once is written as often, as members of one file."""
    member = gzip.compress(piece, mtime=0)
    with open(path, "wb") as file:
        file.write(gzip.compress(first, mtime=0))
        for _ in range(count):
            file.write(member)
    return path


def refused(result, code):
    """Refused with a code on stderr, by an answer that is no traceback."""
    assert result.returncode == 1
    assert f" {code}: " in f" {result.stderr}"
    assert len(result.stderr) < 2_000
    return result


def test_a_line_of_json_that_has_no_end_is_refused(run, shop):
    refused(run("import", "/dev/zero"), "line_too_long")
    refused(run("import", "-", stdin="/dev/zero"), "line_too_long")
    assert shop.position() == len(PAST)


def test_a_row_of_csv_that_has_no_end_is_refused(run, shop):
    mapping = shop.file("map.toml", MAPPING)
    refused(run("import", "--map", mapping, "/dev/zero"), "line_too_long")
    cases = shop.file("cases.csv", "case\nD-1\n")
    refused(run("import", "--map", mapping, "--cases", "/dev/zero", cases), "line_too_long")
    quoted = shop.folder / "quoted.csv"
    quoted.write_bytes(b'case,what,when,worth,seats\nD,made,"' + b"x\n" * (4 * MIB))  # a field, in lines of their own
    refused(run("import", "--map", mapping, quoted), "invalid_csv")
    assert shop.position() == len(PAST)


def test_a_gigabyte_of_one_line_that_was_packed_into_a_megabyte_is_refused(run, shop):
    bomb = packed(shop.folder / "line.gz", b"0" * (16 * MIB), 64)
    assert bomb.stat().st_size < 2 * MIB
    refused(run("import", bomb), "line_too_long")
    refused(run("import", "--map", shop.file("map.toml", MAPPING), bomb), "line_too_long")
    assert shop.position() == len(PAST)


@pytest.mark.parametrize("length", [100, 1_000_000])
def test_a_gzip_bomb_of_blank_lines_is_refused_and_what_came_before_it_is_recorded(run, shop, length):
    piece = (b" " * (length - 1) + b"\n") * (16 * MIB // length)
    bomb = packed(shop.folder / "lines.jsonl.gz", piece, 16, OPEN + b"\n")
    assert refused(run("import", bomb), "gzip_bomb").stdout == "1 recorded, 1 refused\n"
    assert shop.position() == len(PAST) + 1


def test_lines_that_hold_much_more_than_their_length_do_not_fill_the_memory(run, shop):
    """A list takes 56 bytes and more for the three of `[],`: twenty-four lines of a mebibyte would be 500 of them."""
    line = b'{"a": [' + b"[]," * ((MAX_LINE_BYTES - 20) // 3) + b"[]]}\n"
    path = shop.folder / "lists.jsonl"
    with open(path, "wb") as file:
        for _ in range(24):
            file.write(line)
        file.write(OPEN)
    result = run("import", path, "--format", "json")
    answer = json.loads(result.stdout)
    assert (answer["recorded"], answer["bad"], {bad["code"] for bad in answer["refused"]}) == (1, 24, {"missing_field"})


def test_of_many_bad_lines_a_thousand_are_listed_and_all_are_counted(run, shop):
    path = shop.file("bad.jsonl", "{}\n" * 1_500)
    answer = json.loads(run("import", path, "--format", "json").stdout)
    assert (answer["bad"], len(answer["refused"]), answer["lines"]) == (1_500, 1_000, 1_500)
    assert run("import", path).stdout == "0 recorded, 1,500 refused\n"


def test_a_line_as_long_as_may_be_is_recorded(run, shop):
    """A title of 20,000 characters; the rest of the line is blank."""
    action = json.dumps(json.loads(OPEN) | {"title": "x" * 20_000}).encode()
    path = shop.folder / "long.jsonl"
    path.write_bytes(
        b"\xef\xbb\xbf" + action + b" " * (MAX_LINE_BYTES - len(action) - 4) + b"\n" + OPEN + b" " * MAX_LINE_BYTES
    )
    result = refused(run("import", path), "line_too_long")
    assert result.stdout == "1 recorded, 1 refused\n"


def test_files_of_definitions_and_mappings_that_have_no_end_are_refused(run, shop):
    for words in (["define", "b2c", "/dev/zero"], ["pipeline", "b2b", "--draft", "/dev/zero"]):
        result = run(*words)
        assert (result.returncode, "is longer than 1,048,576 bytes" in result.stderr) == (2, True)
    refused(run("import", "--map", "/dev/zero", shop.file("events.csv", "a\n")), "unreadable_file")
    refused(run("record", "-", stdin="/dev/zero"), "invalid_json")
    assert shop.position() == len(PAST)


@pytest.mark.parametrize(
    "text",
    [
        "a." * 32_000 + "a = 1",
        "[" + "a." * 32_000 + "a]",
        "x = {" + "a . " * 32_000 + "a = 1}",
        '"a".' * 32_000 + "a = 1",
        "'a'.\"b\".c." * 10_000 + "a = 1",
    ],
    ids=["key", "table", "inline", "quoted", "mixed"],
)
def test_a_key_of_toml_that_has_thousands_of_parts_is_refused_before_it_is_read(text):
    """The library takes twenty seconds for the first of these, and four times as long for one twice as long."""
    with pytest.raises(ValueError, match="more than 16 parts"):
        parse_toml(text)
    with pytest.raises(DealtrailError) as caught:
        Mapping.parse(text)
    assert caught.value.code == "invalid_mapping"


def test_texts_and_numbers_with_points_are_no_long_keys():
    text = "".join(f'a{n} = "{"1.2." * 5}"\nb{n} = 1.5\n' for n in range(50)) + "x.y.z = 3"
    assert parse_toml(text)["x"] == {"y": {"z": 3}}
    assert parse_toml("a" * 500_000 + " = 1\n" + "# " + '"' * 500_000)  # and no long text takes long


def test_what_a_pipe_sends_line_by_line_is_read_as_it_comes(shop):
    """A gzip header is looked for in the first bytes, without waiting for more of them than there are."""
    command = [sys.executable, "-c", "import sys; from dealtrail.cli.importing import json_lines\n"
               "for line in json_lines(sys.stdin.buffer): print(line.number, flush=True)"]  # fmt: skip
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        for number in (b"1\n", b"2\n"):
            process.stdin.write(OPEN + b"\n")
            process.stdin.flush()
            assert process.stdout.readline() == number
        process.stdin.close()


def test_a_json_text_with_a_key_twice_is_refused_on_the_command_line_too(shop):
    twice = '{"action": "win_deal", "deal": "D-1", "deal": "D-3"}'
    assert shop.run("record", twice).stderr.startswith("Error: duplicate_key: ")
    assert shop.run("record", "-", stdin=twice).stderr.startswith("Error: duplicate_key: ")
    assert shop.run("import", "-", stdin=twice).stderr.startswith("line 1: duplicate_key: ")
    file = shop.file("twice.json", '{"stages": [], "stages": []}')
    assert "stands twice" in shop.run("define", "b2c", file).stderr
    assert shop.position() == len(PAST)


def test_of_lines_that_hold_what_no_action_may_each_is_refused_by_its_number_and_the_next_is_read(run, shop):
    lines = [
        (b'{"action": ' * 50_000, "invalid_json"),
        (b'{"action": ' + b"[" * 100_000 + b"]" * 100_000 + b"}", "invalid_json"),
        (b'{"action": "open_deal", "expected_version": ' + b"1" * 1_000_000 + b"}", "invalid_json"),
        (OPEN.replace(b"D-4", b"\xff"), "invalid_json"),
        (OPEN.replace(b"D-4", b"\xed\xa0\x80"), "invalid_json"),
        (OPEN.replace(b"D-4", b"\\ud800"), "invalid_deal"),
        (OPEN.replace(b"D-4", b"\0"), "invalid_json"),
        (OPEN.replace(b"D-4", b"\\u0000"), "invalid_deal"),
        (b"\xef\xbb\xbf" + OPEN, "invalid_json"),  # only the file may begin with that mark
        (OPEN.replace(b"open_deal", b"open\x1b[2Jdeal"), "invalid_json"),
        (OPEN, None),
    ]
    path = shop.folder / "odd.jsonl"
    path.write_bytes(b"\xef\xbb\xbf" + b"\n".join(line for line, _ in lines))
    answer = json.loads(run("import", path, "--format", "json").stdout)
    told = [(bad["line"], bad["code"]) for bad in answer["refused"]]
    assert told == [(number, code) for number, (_, code) in enumerate(lines, 1) if code]
    assert (answer["recorded"], shop.position()) == (1, len(PAST) + 1)
