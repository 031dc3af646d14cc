"""List every reader of files from outside: how many cases it gets, its sound files, what changes them, how it reads."""

import fuzz_data as data
import fuzz_runs as runs
import fuzz_weights as weights
from fuzz_case import Reader
from mutations import BYTES, TEXT
from structured_mutations import IMAGE, JSON, JSON_LINES, TAR, XML, ZIP

READERS = [
    Reader("pictures", 1200, data.write_images, {"*.png": IMAGE, "*.[!p]*": BYTES}, data.read_image_file),
    Reader("labels", 700, data.write_labels, {"*": IMAGE}, data.read_label_file),
    Reader("class names", 500, data.write_class_files, {"*": TEXT}, data.read_class_file),
    Reader(
        "data sets", 700, data.write_set, {"classes.txt": TEXT, "*/*/*.txt": TEXT, "*/*.png": IMAGE}, data.check_set
    ),
    Reader("inspection cache", 200, data.write_set_and_cache, {"cache.json": JSON}, data.check_set_with_cache),
    Reader("predictions", 200, data.write_predictions, {"masks/*": IMAGE}, data.score_predictions),
    Reader("coco", 900, data.write_coco_set, {"*.json": JSON}, data.convert_set),
    Reader("labelme", 800, data.write_labelme_set, {"*.json": JSON}, data.convert_set),
    Reader("cvat", 800, data.write_cvat_set, {"*.xml": XML}, data.convert_set),
    Reader("yolo", 600, data.write_yolo_set, {"*.yaml": TEXT, "labels/*/*": TEXT}, data.convert_set),
    Reader("label studio", 600, data.write_label_studio_set, {"*.json": JSON}, data.convert_set),
    Reader("supervisely", 600, data.write_supervisely_set, {"*.json": JSON, "*/ann/*": JSON}, data.convert_set),
    Reader("via", 600, data.write_via_set, {"*.json": JSON, "*.csv": TEXT}, data.convert_file),
    Reader("masks in colours", 500, data.write_color_masks, {"*.txt": TEXT, "masks/*": IMAGE}, data.convert_masks),
    Reader("voc archives", 300, data.write_archives, {"*": TAR}, data.prepare),
    Reader("recipes", 700, runs.write_recipe_files, {"*.toml": TEXT}, runs.read_recipe_file),
    Reader(
        "runs", 700, runs.write_run, {"run/*.jsonl": JSON_LINES, "run/*.json": JSON, "run/*.toml": TEXT}, runs.read_run
    ),
    Reader(
        "reports",
        100,
        runs.write_run,
        {"run/*.jsonl": JSON_LINES, "run/*.json": JSON, "run/*.toml": TEXT, "run/previews/*": IMAGE},
        runs.write_reports,
    ),
    Reader(
        "runs to resume",
        400,
        runs.write_run_to_resume,
        {"run/*.jsonl": JSON_LINES, "run/*.json": JSON, "run/*.toml": TEXT, "run/checkpoints/*": ZIP},
        runs.resume_run,
    ),
    Reader("checkpoints", 400, runs.write_checkpoints, {"*.npz": ZIP}, runs.read_checkpoint),
    Reader("crf tables", 400, runs.write_crf_table, {"*.csv": (*TEXT, *JSON)}, runs.read_crf_table),
    Reader("keras files", 600, weights.write_keras_files, {"*.keras": ZIP}, weights.read_weights),
    Reader("keras hdf5", 300, weights.write_keras_hdf5, {"*.h5": BYTES}, weights.read_weights),
    Reader("caffemodels", 300, weights.write_caffemodels, {"*": BYTES}, weights.read_weights),
    Reader("prototxts", 400, weights.write_prototxts, {"*": TEXT}, weights.check_prototxt),
    Reader("pickles", 500, weights.write_pickles, {"*": (*BYTES, *TEXT)}, weights.read_weights),
    Reader("tensorflow checkpoints", 300, weights.write_tf_checkpoint, {"net.*": BYTES}, weights.read_weights),
    Reader("frozen graphs", 300, weights.write_frozen_graphs, {"*.pb": BYTES}, weights.read_weights),
    Reader("torch files", 400, weights.write_torch_files, {"*.pth": BYTES}, weights.read_weights),
    Reader("safetensors", 400, weights.write_safetensors, {"*.safetensors": (*BYTES, *JSON)}, weights.read_weights),
    Reader("tflite graphs", 500, weights.write_tflite_graphs, {"*.tflite": BYTES}, weights.read_weights),
    Reader(
        "exports",
        500,
        weights.write_exports,
        {"*.[ot]*": BYTES, "*/*.pb": BYTES, "*/*/*.json": JSON},
        weights.read_export,
    ),
    Reader("other files", 200, weights.write_other_files, {"*": BYTES}, weights.read_weights),
]
