"""Shell completion, as Typer makes it: quick, and without TensorFlow."""

import os
import shutil
import subprocess
import sys

import pytest
from command_process import PROGRAM, run_without_tensorflow

from deeplabctl.choices import ENGINES


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("deeplabctl se", {"serve"}),
        ("deeplabctl data prep", {"prepare-voc"}),
        ("deeplabctl serve --max-", {"--max-pixels", "--max-body"}),
        ("deeplabctl infer a.jpg --engine ", {"auto", *ENGINES}),
        ("deeplabctl train --recipe paper", {"paper-v1", "paper-v2"}),
        ("deeplabctl recipes ca", {"camvid", "camvid-long"}),
        ("deeplabctl infer a.jpg --weights deeplabv3-mnv2-v", {"deeplabv3-mnv2-voc"}),
        ("deeplabctl weights deeplabv3-mnv2-v", {"deeplabv3-mnv2-voc"}),
        ("deeplabctl export deeplabv3-mnv2-v", {"deeplabv3-mnv2-voc"}),
        ("deeplabctl train --init deeplabv3-mnv2-v", {"deeplabv3-mnv2-voc"}),
    ],
)
def test_commands_options_and_choices_are_completed(words, expected, tmp_path, monkeypatch):
    monkeypatch.setenv("_DEEPLABCTL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    code, out, err = run_without_tensorflow(cwd=tmp_path)
    assert (code, err) == (0, "")
    assert set(out.split()) == expected


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_installed_completion_works_in_bash(tmp_path):
    program = tmp_path / "deeplabctl"
    program.write_text(f"#!{sys.executable}\n{PROGRAM}")
    program.chmod(0o755)
    paths = os.pathsep.join(filter(None, sys.path))
    environment = os.environ | {"HOME": str(tmp_path), "PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPATH": paths}

    def run(*command):
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout

    assert "bash completion installed" in run("bash", "-c", "deeplabctl --install-completion && true")
    words = "COMP_WORDS=(deeplabctl rep); COMP_CWORD=1"
    script = f'source ~/.bashrc; {words}; _deeplabctl_completion deeplabctl; echo "${{COMPREPLY[@]}}"'
    assert run("bash", "-c", script) == "report\n"
