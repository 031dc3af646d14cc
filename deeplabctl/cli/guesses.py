"""Guess what is meant by the options and commands of other programs."""

from __future__ import annotations

from collections.abc import Sequence

# By the names elsewhere: ours, of which the first that a command has is meant.
_OPTIONS = {
    "--batch --batch-sz --bs -b": ["--batch-size"],
    "--checkpoint --ckpt --model --model-path --pretrained --pretrained-weights --weight --weights-path -m -w": [
        "--weights",
        "--init",
    ],
    "--config --config-file --cfg -c": ["--recipe"],
    "--crf-search --crf-grid --crf-images --crf-rounds": ["deeplabctl crf-search"],
    "--dataset --data-dir --data-path --data-root --dataset-dir --root -d": ["--data"],
    "--device --gpu --gpus": ["$CUDA_VISIBLE_DEVICES"],
    "--epochs --iterations --iters --max-iter --max-steps --num-epochs --num-steps -e": ["--steps"],
    "--force -f -y": ["--overwrite"],
    "--half --fp16 --amp": ["--precision float16"],
    "--image --images --img --input --inputs --photo --source -i": ["INPUT"],
    "--imgsz --img-size --input-size --max-side --resize --size": ["--image-size"],
    "--lr": ["--learning-rate"],
    "--output --output-dir --out-dir --output-path --save-dir --save-path -o": ["--out", "--run-dir"],
    "--arch --backbone --network": ["--set model.architecture=NAME"],
    "--wd": ["--set solver.weight_decay=X"],
    "--tta": ["--flip"],
    "--save-img --show --vis --visualize --viz": ["--overlay"],
}
_COMMANDS = {
    "infer": "detect inference predict prediction run segment test-image",
    "train": "finetune fine-tune fit learn",
    "eval": "evaluate score test val validate validation",
    "weights": "download list model models zoo",
    "recipes": "config configs recipe",
    "serve": "api server web",
    "data convert, or convert-caffe for weights": "convert import",
    "--version": "version",
    "--help": "help",
}


def guess_option(name: str, known: Sequence[str]) -> str | None:
    """Return what an option that a command lacks may mean, of its ``known`` options, arguments' names among them."""
    meant = next((meant for names, meant in _OPTIONS.items() if name in names.split()), [])
    for text in meant:
        word = text.split()[0]
        if word in known:
            return f"INPUT, without {name}" if word == "INPUT" else text
        if word.startswith("$") or word == "deeplabctl":
            return text
    return _guess_setting(name) if "--set" in known else None


def guess_command(name: str) -> str | None:
    """Return what a command that there is not may mean."""
    return next((ours for ours, names in _COMMANDS.items() if name in names.split()), None)


def _guess_setting(name: str) -> str | None:
    """Return how a setting of the recipe is given that has the name of the option."""
    from dataclasses import fields

    from deeplabctl.recipe import Recipe

    wanted = name.lstrip("-").replace("-", "_")
    found = [
        f"{section.name}.{setting.name}"
        for section in fields(Recipe)
        for setting in fields(getattr(Recipe(), section.name))
        if setting.name == wanted
    ]
    return f"--set {found[0]}=VALUE" if found else None
