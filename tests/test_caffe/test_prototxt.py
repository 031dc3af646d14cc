import re
import time

import pytest
from caffe_files import DATA
from family_files import family

from deeplabctl.caffe.prototxt import check_geometry, parse, read_prototxt
from deeplabctl.errors import WeightsError
from deeplabctl.network import ARCHITECTURES
from deeplabctl.network.vgg import LARGEFOV

V1, V2 = DATA / "lfov_slim_v1_deploy.prototxt", DATA / "lfov_slim_v2_deploy.prototxt"
SLIM = 0.125  # their width


def test_both_formats_of_the_real_programs_read():
    old, new = read_prototxt(V1), read_prototxt(str(V2))
    assert old["name"] == new["name"] == ["DeepLab-LargeFOV-slim"]
    assert old["input_dim"] == [1, 3, 321, 321]
    first = {kind: tree[kind][0] for kind, tree in (("layers", old), ("layer", new))}
    assert (first["layers"]["type"], first["layer"]["type"]) == (["CONVOLUTION"], ["Convolution"])
    for layer in first.values():
        assert layer["convolution_param"] == [{"num_output": [8], "kernel_size": [3], "pad": [1]}]
    assert (len(old["layers"]), len(new["layer"])) == (40, 39)
    assert first["layers"].where == f"{V1}:7"


def test_other_files_are_refused(tmp_path):
    (tmp_path / "empty").write_text(" \n")
    (tmp_path / "large").write_text("a: 1\n" * 300_000)
    for path, message in [
        (tmp_path / "missing", "cannot be read"),
        (tmp_path / "empty", "an empty file"),
        (tmp_path / "large", "1500000 bytes"),
        (DATA / "lfov_tiny_v1.caffemodel", "a binary file"),
        (tmp_path, "cannot be read"),
    ]:
        with pytest.raises(WeightsError, match=message):
            read_prototxt(path)


@pytest.mark.parametrize(
    "text", ["a:'" * 99_999, "#" * 999_999, "a{}" * 99_999, "[" * 99_999, "a:" + "<" * 9999, " " * 999_999]
)
def test_no_text_takes_long(tmp_path, text):
    (tmp_path / "a").write_text(text + "x")
    start = time.process_time()
    with pytest.raises(WeightsError):
        check_geometry(read_prototxt(tmp_path / "a"))
    assert time.process_time() - start < 5


@pytest.fixture
def changed(tmp_path):
    """Return the tree of a deploy file with replacements made in it, each in the layer of a name."""

    def change(path, *replacements):
        text = path.read_text()
        for layer, old, new in replacements:
            at = text.index(f'name: "{layer}"')
            assert old in text[at:]
            text = text[:at] + text[at:].replace(old, new, 1)
        target = tmp_path / path.name
        target.write_text(text)
        return read_prototxt(target)

    return change


@pytest.mark.parametrize("path", [V1, V2], ids=["V1", "V2"])
def test_geometry_of_both_formats_agrees_with_the_table(path):
    assert check_geometry(read_prototxt(path), width=SLIM) == [row.name for row in LARGEFOV.rows]
    assert check_geometry(read_prototxt(path), "largefov", num_classes=21, width=SLIM)


@pytest.mark.parametrize(
    ("path", "layer", "old", "new", "message"),
    [
        (V1, "fc6", "hole: 12", "hole: 4", "dilation expected 12, got 4"),
        (V1, "fc6", "hole: 12", "", "dilation expected 12, got 1"),
        (V1, "fc6", "hole: 12", "hole_h: 12 hole_w: 6", "dilation expected 12, got 12 and 6"),
        (V2, "conv5_2", "dilation: 2", "dilation: 2 dilation: 1", "dilation expected 2, got 2 and 1"),
        (V2, "conv5_2", "pad: 2", "pad: 1", "pad expected 2, got 1"),
        (V2, "conv5_2", "pad: 2", "pad_h: 2", "pad expected 2, got 2 and 0"),
        (V1, "conv1_1", "kernel_size: 3", "kernel_size: 5", "kernel expected 3, got 5"),
        (V1, "conv1_1", "kernel_size: 3", "", "kernel expected 3, got none"),
        (V1, "conv1_1", "pad: 1", "pad: 1 stride: 2", "stride expected 1, got 2"),
        (V1, "conv2_1", "pad: 1", "pad: 1 group: 2", "group expected 1, got 2"),
        (V1, "conv2_1", "num_output: 16", "num_output: 17", "num_output expected 16, got 17"),
        (V1, "conv2_1", "num_output: 16", "num_output: []", "num_output expected 16, got none"),
        (V1, "pool4", "stride: 1", "stride: 2", "stride expected 1, got 2"),
        (V1, "pool4", "stride: 1 pad: 1", "stride: 1", "pad expected 1, got 0"),
        (V2, "pool1", "kernel_size: 3", "kernel_size: 2", "kernel expected 3, got 2"),
        (V2, "pool5a", "pool: AVE", "pool: MAX", "expected average pooling, got MAX"),
        (V2, "pool5a", "pool: AVE", "pool: []", "expected average pooling, got MAX"),
        (V2, "pool5", "pool: MAX", "pool: AVE", "expected max pooling, got AVE"),
        (V2, "pool1", "pool: MAX", "round_mode: FLOOR", "expected pooling in windows, its size rounded up"),
        (V2, "fc7", '"Convolution"', '"InnerProduct"', "expected a convolution, got InnerProduct"),
    ],
)
def test_a_difference_is_refused_with_layer_line_and_both_values(changed, path, layer, old, new, message):
    tree = changed(path, (layer, old, new))
    with pytest.raises(WeightsError) as caught:
        check_geometry(tree, width=SLIM)
    line = next(n for n, text in enumerate(path.read_text().splitlines(), 1) if f'name: "{layer}"' in text) - 1
    assert f"{layer} (line {line}): {message}" in str(caught.value)
    assert str(caught.value).count("expected") == 1
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('name: "relu4_2" type: RELU', 'name: "relu4_2" type: SIGMOID', r"relu4_2 \(line 99\): unexpected SIGMOID"),
        ('name: "relu4_2" type: RELU', 'name: "relu4_2" type: 23', "unexpected 23"),
        (
            'bottom: "conv4_2" top: "conv4_2"',
            'bottom: "data" top: "x"',
            r"conv4_2 \(line \d+\): expected a ReLU on it, got none",
        ),
        (
            'bottom: "fc7" top: "fc7"',
            'bottom: "fc8_voc12" top: "fc8_voc12"',
            r"fc8_voc12 \(line \d+\): expected no ReLU on it, got one",
        ),
        (
            "layers {",
            "layers { type: IMAGE_SEG_DATA transform_param { scale: 0.0039 } } layers {",
            "scale expected 1, got 0.0039",
        ),
        (
            "layers {",
            "layers { type: IMAGE_SEG_DATA transform_param { mean_value: 128 } } layers {",
            r"mean_value expected 104\.008 and 116\.669 and 122\.675, got 128",
        ),
        (
            'name: "relu4_2"',
            'name: "relu4_2" relu_param { negative_slope: 0.1 }',
            r"relu4_2 \(line 99\): negative_slope expected 0, got 0\.1",
        ),
        ("layers {", "layers { transform_param { mean_value: 104 mean_value: a } } layers {", "got 104 and nan"),
    ],
)
def test_what_is_computed_in_place_and_how_images_are_made_is_compared(old, new, message):
    text = V1.read_text()
    assert old in text
    with pytest.raises(WeightsError, match=message):
        check_geometry(parse(text.replace(old, new, 1), "net.prototxt"), width=SLIM)


def test_means_of_other_programs_that_are_as_good_as_equal_and_other_layers_in_place_agree():
    data = "layers { transform_param { mirror: true mean_value: 103.939 mean_value: 116.779 mean_value: 123.68 } }"
    relu = 'layers { name: "x" type: RELU bottom: "pool1" top: "pool1" }'
    dropout = 'layers { name: "y" type: 6 bottom: "fc6" top: "fc6" }'
    assert check_geometry(parse(data + relu + dropout + V1.read_text(), "net.prototxt"), width=SLIM)


def test_all_differences_are_in_one_error(changed):
    tree = changed(V1, ("fc6", "hole: 12", "hole: 4"), ("fc6", "pad: 12", "pad: 4"), ("pool5", "MAX", "AVE"))
    with pytest.raises(
        WeightsError, match=r"pool5 .*; fc6 .* pad expected 12, got 4; fc6 .* dilation expected 12, got 4"
    ):
        check_geometry(tree, width=SLIM)


def test_other_ways_to_write_the_same_geometry_agree(changed):
    replacements = [
        ("fc6", "hole: 12", "hole_h: 12 hole_w: 12"),
        ("fc7", "kernel_size: 1", "kernel_h: 1 kernel_w: 1 stride: 1 group: 1 }\n convolution_param { pad: 0 hole: 1"),
        ("pool5a", "pool: AVE", "pool: 1"),
        ("conv1_1", "type: CONVOLUTION", "type: 4"),
        ("pool1", "pool: MAX ", "round_mode: CEIL "),
    ]
    assert len(check_geometry(changed(V1, *replacements), width=SLIM)) == len(LARGEFOV.rows)


def test_classifier_may_have_another_name_and_class_count_or_be_missing(changed):
    renamed = changed(
        V2, ("fc8_voc12", 'name: "fc8_voc12"', 'name: "fc8_mine"'), ("fc8_mine", "num_output: 21", "num_output: 4")
    )
    assert check_geometry(renamed, num_classes=4, width=SLIM)[-1] == "fc8_mine"
    with pytest.raises(WeightsError, match=r"fc8_mine \(line \d+\): num_output expected 21, got 4"):
        check_geometry(renamed, num_classes=21, width=SLIM)
    missing = read_prototxt(V2)
    missing["layer"].pop()
    assert check_geometry(missing, width=SLIM)[-1] == "fc7"


def test_template_of_the_authors_with_its_placeholders_agrees(changed):
    tree = changed(V1, ("fc8_voc12", "num_output: 21", "num_output: ${NUM_LABELS}"))
    assert check_geometry(tree, num_classes=21, width=SLIM)


def test_width_is_compared_with_the_one_that_is_given():
    with pytest.raises(WeightsError, match=r"conv1_1 \(line 7\): num_output expected 64, got 8"):
        check_geometry(read_prototxt(V1), width=1.0)


def test_missing_and_unexpected_layers_are_differences():
    tree = read_prototxt(V2)
    tree["layer"] = [layer for layer in tree["layer"] if layer["name"] not in (["pool5a"], ["conv4_2"])]
    with pytest.raises(WeightsError, match=r"- conv4_2 \(missing\); - pool5a \(missing\)"):
        check_geometry(tree, width=SLIM)
    tree = read_prototxt(V2)
    tree["layer"][-1]["name"], tree["layer"][-1]["type"] = ["pool6"], ["Pooling"]
    with pytest.raises(WeightsError, match=r"\+ pool6 \(line \d+\): unexpected pooling"):
        check_geometry(tree, width=SLIM)


def test_another_net_is_refused():
    tree = parse('layer { name: "data" type: "Input" } layer { name: "ip1" type: "InnerProduct" }', "mnist.prototxt")
    with pytest.raises(WeightsError, match="expected a net like largefov, got none of its layers"):
        check_geometry(tree, width=SLIM)


FAMILY = {
    "aspp-s": ["aspp_s_d16_deploy.prototxt"],
    "aspp-l": ["aspp_l_d16_deploy.prototxt"],
    "msc-largefov": ["msc_d16_deploy.prototxt"],
    "resnet101": ["r101_d16_deploy.prototxt", "r101_d32_msc_deploy.prototxt"],
}


def width_of(name):
    """Return the width of a net of the family: "d16" has a sixteenth of the channels."""
    return 1 / int(re.search(r"_d(\d+)_", name)[1])


@pytest.mark.parametrize(("architecture", "name"), [(key, name) for key, names in FAMILY.items() for name in names])
def test_nets_of_the_family_agree_with_their_tables_alone(architecture, name):
    tree = read_prototxt(family(name))
    found = check_geometry(tree, architecture, 21, width_of(name))
    assert len(found) == len(ARCHITECTURES[architecture].prediction_rows)
    for other in set(FAMILY) - {architecture}:
        with pytest.raises(WeightsError, match=r"does not fit|got none of its layers"):
            check_geometry(tree, other, width=width_of(name))


@pytest.mark.parametrize(
    ("name", "layer", "old", "new", "message"),
    [
        ("r101_d16_deploy.prototxt", "res3a_branch2a", "stride: 2", "stride: 1", "stride expected 2, got 1"),
        ("r101_d16_deploy.prototxt", "bn4b7_branch2b", "true }", "true eps: 1e-3 }", "eps expected 1e-05, got 0.001"),
        ("r101_d16_deploy.prototxt", "fc1_voc12", "SUM", "MAX", "operation expected SUM, got MAX"),
        ("r101_d16_deploy.prototxt", "fc1_voc12", "SUM", "SUM coeff: 1 coeff: -1", "coeff expected 1, got 1 and -1"),
        ("r101_d16_deploy.prototxt", "scale5c_branch2c", '"Scale"', '"ReLU"', "expected a scale, got ReLU"),
        (
            "r101_d16_deploy.prototxt", "res4b1", 'bottom: "res4a"', 'bottom: "res3b3"',
            "inputs expected res4a and res4b1_branch2c, got res3b3 and res4b1_branch2c",
        ),
        ("r101_d32_msc_deploy.prototxt", "res4b1_branch2b_res075", "dilation: 2", "", "dilation expected 2, got 1"),
        (
            "aspp_l_d16_deploy.prototxt", "fc6_3", 'bottom: "pool5"', 'bottom: "pool4"',
            "inputs expected pool5, got pool4",
        ),
    ],
)  # fmt: skip
def test_difference_in_a_net_with_branches_is_refused(name, layer, old, new, message):
    text = family(name).read_text() + "\nlayer {}"
    at = text.index(f'name: "{layer}"\n')
    end = text.index("\nlayer {", at)
    assert old in text[at:end]
    changed = text[:at] + text[at:end].replace(old, new, 1) + text[end:]
    architecture = "aspp-l" if name.startswith("aspp") else "resnet101"
    with pytest.raises(WeightsError) as caught:
        check_geometry(parse(changed, "net.prototxt"), architecture, width=width_of(name))
    assert f"{layer} (line " in str(caught.value)
    assert message in str(caught.value)
    assert str(caught.value).count("expected") == 1


def test_missing_scale_of_a_norm_is_named():
    tree = read_prototxt(family("r101_d16_deploy.prototxt"))
    tree["layer"] = [layer for layer in tree["layer"] if layer["name"] != ["scale3b2_branch2b"]]
    with pytest.raises(WeightsError, match=r"resnet101: - scale3b2_branch2b \(missing\); weights"):
        check_geometry(tree, "resnet101", width=1 / 16)


@pytest.mark.parametrize(("architecture", "name"), [(key, name) for key, names in FAMILY.items() for name in names])
@pytest.mark.parametrize("other", ["nyu40", "my_own_set"])
def test_classifiers_and_their_sum_may_have_the_name_of_another_data_set(architecture, name, other):
    text = family(name).read_text()
    assert "_voc12" in text
    tree = parse(text.replace("_voc12", f"_{other}"), "net.prototxt")
    found = check_geometry(tree, architecture, 21, width_of(name))
    assert len(found) == len(ARCHITECTURES[architecture].prediction_rows)
    assert sum(other in layer for layer in found) == text.count('name: "fc8_voc12') or "msc" in name or "r101" in name


def test_classifiers_may_have_any_names_as_they_follow_their_layers():
    text = family("aspp_l_d16_deploy.prototxt").read_text().replace('"fc8_voc12', '"score')
    assert check_geometry(parse(text, "net.prototxt"), "aspp-l", 21, 1 / 16)[-1] == "score"


def test_input_that_is_not_a_name_is_not_a_classifiers(changed):
    tree = changed(V2, ("fc8_voc12", 'name: "fc8_voc12"', 'name: "mine"'), ("mine", 'bottom: "fc7"', "bottom { a: 1 }"))
    assert check_geometry(tree, width=SLIM)[-1] == "fc7"


def test_missing_classifier_of_several_is_named():
    tree = read_prototxt(family("aspp_l_d16_deploy.prototxt"))
    tree["layer"] = [layer for layer in tree["layer"] if layer["name"] != ["fc8_voc12_2"]]
    with pytest.raises(WeightsError, match=r"- fc8_voc12_2 \(missing\)"):
        check_geometry(tree, "aspp-l", width=1 / 16)
