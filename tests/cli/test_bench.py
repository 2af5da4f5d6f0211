"""`dicomcrypt bench`, and the arithmetic of bench/compare.py. Nothing here judges a time."""

import importlib.util
import json
import pathlib

import pytest
from click.testing import CliRunner

from dicomcrypt.ciphers.transform import active_kernel, kernels
from dicomcrypt.cli import measure
from dicomcrypt.cli.bench import bench

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def compare():
    spec = importlib.util.spec_from_file_location("bench_compare", ROOT / "bench" / "compare.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_names_the_kernel_and_its_figures_are_complete():
    result = CliRunner().invoke(bench, ["--seconds", "0.1", "--json"])
    assert result.exit_code == 0, result.output
    facts = json.loads(result.output)
    assert facts["kernel"] == active_kernel()
    assert facts["kernels"] == kernels()
    figures = facts["figures"]
    blocks = [f"block {method} {way}" for method in measure.METHOD_NAMES
              for way in ("forward", "inverse")]
    assert set(figures) >= {"memory copy", "aes-256-gcm", "ct encrypt", "ct decrypt",
                            "16MiB encrypt", "16MiB decrypt", *blocks}
    for entry in figures.values():
        assert entry["gb_per_s"] > 0
        assert entry["ratio"] > 0
    assert figures["16MiB encrypt"]["note"] == "method 0, 1, 2 in 6, 5, 5 blocks"


def test_the_command_obeys_a_demand_for_a_kernel(monkeypatch):
    monkeypatch.setenv("DICOMCRYPT_KERNEL", "portable")
    result = CliRunner().invoke(bench, ["--seconds", "0.1", "--json"])
    assert json.loads(result.output)["kernel"] == "portable"


def test_the_command_on_a_terminal_shows_every_verdict():
    result = CliRunner().invoke(bench, ["--seconds", "0.1"])
    assert result.exit_code == 0, result.output
    for name, verdict in kernels().items():
        assert f"{name}: {verdict}" in result.output


def test_a_wrong_answer_is_an_error():
    with pytest.raises(measure.WrongAnswer, match="do not use this build"):
        measure.check(False, "a kernel")


@pytest.mark.parametrize("shape", measure.SHAPES)
def test_block_work_checks_itself_in_every_shape(shape):
    work, size = measure.block_work(shape, "multilevel", inverse=True)
    work()
    assert size == measure.SHAPES[shape][0][1]


def test_ratios_are_to_the_best_yardstick_of_the_run():
    """One yardstick was disturbed beside `b`: its figure must not look better for it."""
    found = measure.with_ratios({
        "a": {"gb_per_s": 5.0, "yardstick_bytes": 1, "yardstick_gb_per_s": 10.0},
        "b": {"gb_per_s": 1.0, "yardstick_bytes": 1, "yardstick_gb_per_s": 2.0},
        "c": {"gb_per_s": 1.0, "yardstick_bytes": 9, "yardstick_gb_per_s": 2.0},
    })
    assert [found[name]["ratio"] for name in "abc"] == [0.5, 0.1, 0.5]


# ---- compare.py ------------------------------------------------------------


def run(rate, yardstick=10.0, name="ct encrypt"):
    return {name: {"gb_per_s": rate, "yardstick_bytes": 65536, "yardstick_gb_per_s": yardstick}}


def test_the_best_of_each_side_counts(compare):
    base = [run(3.0), run(5.0), run(1.0, 2.0)]
    assert compare.summarize(base) == {"ct encrypt": 0.5}


def test_a_machine_that_slows_down_as_a_whole_is_no_regression(compare):
    (entry,) = compare.changes([run(5.0)], [run(2.5, 5.0)])
    assert entry["change"] == 0
    assert not entry["fell"]


@pytest.mark.parametrize(
    ("rate", "fell"), [(10.0, False), (4.3, False), (4.2, True), (1.0, True)]
)
def test_only_a_fall_beyond_the_threshold_counts(compare, rate, fell):
    (entry,) = compare.changes([run(5.0)] * 7, [run(rate)] * 7)
    assert entry["fell"] is fell


def test_the_threshold_can_be_chosen(compare):
    (entry,) = compare.changes([run(5.0)], [run(4.2)], threshold=0.2)
    assert not entry["fell"]


def test_figures_of_one_side_only_are_left_out(compare):
    base = [{**run(5.0), **run(5.0, name="gone")}]
    assert [entry["name"] for entry in compare.changes(base, [run(5.0)])] == ["ct encrypt"]


def test_neither_python_nor_revision_is_refused(compare, tmp_path):
    with pytest.raises(SystemExit, match="neither a python nor a git revision"):
        compare.prepare("no-such-revision", tmp_path)
