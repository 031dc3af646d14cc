"""Changed files end in one line or in a sound result, whatever was changed: 12,000 of them in the slow tier.

A failure names the reader and the number of the case, and how to run that alone.
"""

import pytest
from fuzz import run_readers
from fuzz_readers import READERS

SHARE = 1 / 80  # of the cases in the normal tier
NEVER_SOUND = "other files"  # none of them has weights
ALWAYS_SOUND = ("inspection cache", "predictions", "labelme")  # read again, counted as faults, failing alone

every_reader = pytest.mark.parametrize("reader", READERS, ids=lambda reader: reader.name)


@pytest.fixture(scope="module")
def few_cases(tmp_path_factory):
    """Run a small share of the cases of all readers in one process."""
    counts = {reader.name: max(round(SHARE * reader.cases), 2) for reader in READERS}
    return run_readers(counts, tmp_path_factory.mktemp("few"))


@every_reader
def test_changed_files_are_refused_in_one_line_or_read(few_cases, reader):
    result = few_cases[reader.name]
    assert not result["failures"], "\n\n".join(result["failures"][:5])
    assert result["refused"] + result["sound"] >= 2


@pytest.mark.slow
@every_reader
def test_all_changed_files_are_refused_in_one_line_or_read(reader, tmp_path):
    result = run_readers({reader.name: reader.cases}, tmp_path)[reader.name]
    assert not result["failures"], f"{len(result['failures'])}:\n" + "\n\n".join(result["failures"][:10])
    assert result["refused"] > 0.02 * reader.cases or reader.name in ALWAYS_SOUND  # else the changes meet nothing
    assert result["sound"] > 0.01 * reader.cases or reader.name == NEVER_SOUND
