#!/bin/sh
# Train, evaluate and segment on the built-in data set, printing the commands as a user would type them.
# Works in ./demo, which is deleted first; $DEEPLABCTL names the command.
set -eu
unset DEEPLABCTL_DATA DEEPLABCTL_WEIGHTS

rm -rf demo
mkdir demo
cd demo

run() {
    printf '\n$ deeplabctl %s\n' "$*"
    "${DEEPLABCTL:-deeplabctl}" "$@"
}

run train
run eval --split val
run data shapes new --train 1 --val 4 --seed 2026
run infer new/JPEGImages --overlay

printf '\nOpen this page in a browser:\n'
find "$PWD/runs" -name report.html
printf '\nLook at these images:\n'
find "$PWD/runs" -name curves.png
find "$PWD/runs" -name 'step-*.png' | sort | tail -n 1
find "$PWD/masks" -name '*_overlay.png' | sort
