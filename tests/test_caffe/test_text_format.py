import numpy as np
import pytest

from deeplabctl.caffe.prototxt import parse, read_prototxt
from deeplabctl.errors import WeightsError


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", {}),
        ("# nothing but a comment", {}),
        ("a: 1 a: 2", {"a": [1, 2]}),
        ("a: 1, b: 2; c: 3", {"a": [1], "b": [2], "c": [3]}),
        ("a { b: 1 } c: { d: 2 }", {"a": [{"b": [1]}], "c": [{"d": [2]}]}),
        ("e < f: 3 > g: < >", {"e": [{"f": [3]}], "g": [{}]}),
        ("a{b{c{d:1}}}", {"a": [{"b": [{"c": [{"d": [1]}]}]}]}),
        ("a: [1, 2] a: 3 b: [] c: [x, 'y']", {"a": [1, 2, 3], "b": [], "c": ["x", "y"]}),
        ("d [{e: 1}, <>]", {"d": [{"e": [1]}, {}]}),
        ("a: -1 b: 0x1F c: 010 d: 0", {"a": [-1], "b": [31], "c": [8], "d": [0]}),
        ("a: 1.5e-3 b: .5 c: 2.f d: -inf", {"a": [0.0015], "b": [0.5], "c": [2.0], "d": [-np.inf]}),
        ("a: MAX b: true inf: 1 info: nano", {"a": ["MAX"], "b": ["true"], "inf": [1], "info": ["nano"]}),
        ("""a: "x" 'y'\n"z" """, {"a": ["xyz"]}),
        (r"""a: "q\"q" b: 'q\'q'""", {"a": ['q"q'], "b": ["q'q"]}),
        (r"""a: "b\\" c: "é" """, {"a": ["b\\"], "c": ["é"]}),
        ("a: '#' # comment: 'with quotes\nb: 1", {"a": ["#"], "b": [1]}),
        ("\ufeffa: 1\r\nb: 2\r\n", {"a": [1], "b": [2]}),
        ("n: ${NUM_LABELS} s: 'fc8_${EXP}'", {"n": ["${NUM_LABELS}"], "s": ["fc8_${EXP}"]}),
    ],
)  # fmt: skip
def test_text_format_reads(tmp_path, text, tree):
    path = tmp_path / "a.prototxt"
    path.write_bytes((text or " # ").encode())
    assert read_prototxt(path) == tree


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("a: 1\nb 2", 2, "expected : or {, got '2'"),
        ("a: 1\n\nb: }", 3, "expected a value, got '}'"),
        ("a {\n b: 1\n", 3, "expected the name of a field or }, got the end of the file"),
        ("a { b: 1 >", 1, "or }, got '>'"),
        ("}", 1, "expected the name of a field, got '}'"),
        ("a:", 1, "expected a value, got the end of the file"),
        ("a: 'x\n'", 1, "a name, a value or a bracket"),
        ("a: 1.2.3", 1, "a name, a value or a bracket"),
        ("a: 12abc", 1, "a name, a value or a bracket"),
        ("a: [1 2]", 1, "expected , or ], got '2'"),
        ("a: [1,\n2", 2, "expected , or ], got the end of the file"),
        ("a: 1\n{ b: 1 }", 2, "expected the name of a field"),
        ("5: 1", 1, "expected the name of a field"),
        ("x @ y", 1, "got '@ y'"),
        ("a: " + "9" * 5000, 1, "a number of at most 64 characters"),
        ("a {" * 200, 1, "at most 100 deep"),
        ("<html><body>", 1, "expected the name of a field, got '<'"),
    ],
)
def test_text_that_is_not_a_prototxt_is_refused_with_its_line(text, line, message):
    with pytest.raises(WeightsError) as caught:
        parse(text, "a.prototxt")
    assert f"prototxt a.prototxt:{line}: " in str(caught.value)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
