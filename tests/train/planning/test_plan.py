"""Plans from whatever is given, in Python and on the command line; and the measurement of this machine."""

import itertools
import json
import re
from dataclasses import replace
from functools import partial

import pytest

import command_line
from kit.tables import for_each
from lmworks.cli.plan_command import _measure, _print_tables
from lmworks.config import ConfigError, from_mapping
from lmworks.model import presets
from lmworks.model.model_costs import count_parameters
from lmworks.model.presets.sizes import SIZES
from lmworks.recipe import find
from lmworks.recipe import load as load_recipe
from lmworks.train.config import PretrainConfig
from lmworks.train.planning import measured_throughput
from lmworks.train.planning.compute import train_flops_per_token
from lmworks.train.planning.layout import Layout
from lmworks.train.planning.measured_throughput import Calibration, calibrate, kept_calibration, measured_speed
from lmworks.train.planning.model_shape import TooFewParametersError
from lmworks.train.planning.plan import PlanConfig, Speed, make_plan
from lmworks.train.planning.plan_explanation import SECTIONS
from lmworks.train.planning.units import readable_bytes, readable_hours, short

TINY = presets.llama(97, 64, 3, 4, 4, 176, 64)


def hundred_teraflops(config, layout, numbers):
    return Speed(1e14, "a test", whole_run=False)


lmworks = partial(command_line.lmworks, "plan")


@for_each(
    ("given", "asked"),
    [
        ({"flops": 1e21}, "flops"),
        ({"params": 1e9}, "parameters"),
        ({"tokens": 20e9}, "tokens"),
    ],
)
def test_one_number_gives_the_others_and_a_plan_of_all(given, asked):
    plan = make_plan(PlanConfig(**given), hundred_teraflops)
    (value,) = given.values()
    assert getattr(plan.allocation, asked) == pytest.approx(value)
    assert plan.allocation.flops == pytest.approx(6 * plan.allocation.parameters * plan.allocation.tokens)
    assert 15 < plan.allocation.tokens / plan.allocation.parameters < 30
    assert count_parameters(plan.config) == pytest.approx(plan.allocation.parameters, rel=0.05)
    assert plan.memory.total == sum(plan.memory.parts.values())
    for title, lines in SECTIONS.items():
        assert all(line.value and line.why for line in lines(plan)), title


@pytest.mark.parametrize("family", ["llama", "gpt2", "qwen3", "gpt_neox"])
def test_the_command_that_spends_the_time_is_one_of_the_recipe(family, capsys):
    _print_tables(make_plan(PlanConfig(hours=24, model=family), hundred_teraflops))
    (name, settings) = re.findall(r"lmworks build (\w+)((?: --set \S+)+)", capsys.readouterr().out)[0]
    recipe = load_recipe(find(name), [each for each in settings.split() if each != "--set"])
    (pretrained,) = (stage.config for stage in recipe.stages if stage.name == "pretrained")
    assert isinstance(pretrained, PretrainConfig) and pretrained.family == family
    assert pretrained.minutes == pytest.approx(24 * 60, rel=0.05)


@pytest.mark.parametrize(
    ("request_", "targets"),
    [
        (PlanConfig(params=20e6), (None, 20_000_000, None)),
        (PlanConfig(tokens=1e9), (None, None, 1_000_000_000)),
        (PlanConfig(params=20e6, tokens=1e8), (None, 20_000_000, 100_000_000)),
        (PlanConfig(hours=2, params=20e6), (120, 20_000_000, None)),
    ],
)
def test_the_command_sets_the_targets_that_were_given(request_, targets, capsys):
    _print_tables(make_plan(request_, hundred_teraflops))
    (settings,) = re.findall(r"lmworks build scratch((?: --set \S+)+)", capsys.readouterr().out)
    recipe = load_recipe(find("scratch"), [each for each in settings.split() if each != "--set"])
    (pretrained,) = (stage.config for stage in recipe.stages if stage.name == "pretrained")
    assert (pretrained.minutes, pretrained.parameters, pretrained.tokens) == targets


@pytest.mark.parametrize(
    "request_",
    [
        PlanConfig(params=1e12),
        PlanConfig(hours=24, device="h100-80gb"),
        PlanConfig(hours=24, layout=Layout(data=2)),
        PlanConfig(tokens=1e9, model="gpt2-124m"),
    ],
)
def test_no_command_is_told_where_it_would_not_train_that(request_, capsys):
    _print_tables(make_plan(request_, hundred_teraflops))
    assert "lmworks build" not in capsys.readouterr().out


def test_nothing_is_measured_for_what_contradicts_itself():
    def measure(*_):
        raise AssertionError("measured")

    for request in (PlanConfig(hours=3, params=7e9, tokens=1e12), PlanConfig(hours=3, model="gpt2-124m", tokens=1e9)):
        with pytest.raises(ValueError, match="one or two of"):
            make_plan(request, measure)


def test_hours_buy_what_then_takes_those_hours():
    request = PlanConfig(hours=24, layout=Layout(data=8, zero=2, recompute="blocks"))
    plan = make_plan(request, hundred_teraflops)
    # The shape is within some per cent of the parameters that the law says.
    assert plan.duration.hours == pytest.approx(24, rel=0.05)
    assert plan.duration.device_hours == pytest.approx(8 * plan.duration.hours)
    seconds = plan.allocation.tokens * train_flops_per_token(plan.config, 2048) / 8e14 * 4 / 3
    assert plan.duration.hours * 3600 == pytest.approx(seconds)


@for_each("tokens", [None, 11e6])
@for_each("minutes", [10, 20, 60])
def test_hours_where_much_of_a_step_does_not_grow_with_the_model(minutes, tokens):
    """As with the head of a large vocabulary: the time is far from a multiple of the parameters."""

    def measure(config, layout, numbers):
        seconds = 4e-5 + 2e-11 * count_parameters(config)
        return Speed(train_flops_per_token(config, layout.length) / seconds, "a law", whole_run=False)

    request = PlanConfig(hours=minutes / 60, tokens=tokens, vocabulary=4096, layout=Layout(length=512))
    plan = make_plan(request, measure)
    assert plan.duration.hours * 60 == pytest.approx(minutes, rel=0.15)  # models come in steps of some 10 %


@for_each("model", ["llama", "gpt2"])
def test_hours_buy_models_of_a_vocabulary_that_is_larger_than_the_first_guess(model):
    plan = make_plan(PlanConfig(hours=100, model=model, vocabulary=262_144, device="h100-80gb"))
    assert plan.duration.hours == pytest.approx(100, rel=0.05)
    assert plan.shape.parameters > 5e8


def test_money_buys_hours_at_a_price():
    request = PlanConfig(budget=1000, price=2.5, device="h100-80gb", layout=Layout(data=8))
    plan = make_plan(request)
    assert plan.duration.device_hours == pytest.approx(400, rel=0.05)
    assert plan.duration.cost == pytest.approx(2.5 * plan.duration.device_hours)


def test_a_published_size_brings_its_own_parameters():
    plan = make_plan(
        PlanConfig(
            model="llama2-7b", tokens=2e12, device="a100-80gb", utilisation=0.445, layout=Layout(data=8, length=4096)
        )
    )
    assert plan.shape is None and plan.allocation.parameters == 6_738_415_616
    assert plan.duration.device_hours == pytest.approx(184_320, rel=0.01)
    lines = {line.name: line for line in SECTIONS["budget"](plan)}
    assert float(lines["loss at the best ratio"].value) < float(lines["loss"].value)


def test_a_loss_that_no_model_can_have_is_left_out_and_told():
    """ln(1,024) = 6.93 is what a model reaches that has learnt nothing."""
    small = make_plan(PlanConfig(params=3e6, vocabulary=1024), hundred_teraflops)
    assert small.allocation.loss is None
    lines = {line.name: line for line in SECTIONS["budget"](small)}
    assert lines["loss"].value == "unknown" and "7.07, more than the ln(1,024) = 6.93" in lines["loss"].why
    advice = [line.name for line in list(SECTIONS.values())[-1](small)]
    assert "critical batch" not in advice and "loss at the best ratio" not in lines
    large = make_plan(PlanConfig(params=3e6), hundred_teraflops)  # of 32,000 tokens: ln = 10.4
    assert large.allocation.loss == pytest.approx(7.07, abs=0.01)


@for_each(
    ("given", "told"),
    [
        ({"hours": 1e-5}, "hours=1e-05 would go .* the smallest llama .* has 2,101,440: give more hours or a smaller"),
        ({"flops": 1e12}, "flops=1e.12 would .* give more flops or a smaller vocabulary"),
        ({"tokens": 1e6}, "tokens=1e.06 would .* give more tokens or"),
        ({"flops": 1e15, "tokens": 1e9}, "flops=.* and tokens=.* give more flops, fewer tokens or"),
        ({"params": 1e5}, "take more parameters or a smaller vocabulary"),
    ],
)
def test_too_little_for_any_model_is_told_in_what_was_given(given, told):
    with pytest.raises(TooFewParametersError, match=told):
        make_plan(PlanConfig(**given), hundred_teraflops)


def test_without_a_measurement_the_time_is_unknown_and_says_why():
    plan = make_plan(PlanConfig(params=1e8))
    assert plan.duration is None and plan.speed is None
    assert {line.value for line in SECTIONS["time"](plan)} >= {"unknown"}
    with pytest.raises(ValueError, match="needs a speed"):
        make_plan(PlanConfig(hours=1))


def test_what_does_not_fit_says_what_to_try():
    def advice(**layout):
        request = PlanConfig(model="llama2-13b", device="a100-40gb", layout=Layout(**layout))
        return SECTIONS["memory of one device"](make_plan(request))[-1].why

    # 208 GB of weights, gradients and optimizer: computing activations again cannot help.
    for recompute in ("nothing", "blocks"):
        assert "even without activations; divide" in advice(recompute=recompute)
        assert "even without activations; try zero=1" in advice(data=4, recompute=recompute)
    assert "try recompute=selective" in advice(data=64, zero=3, sequences=16)
    assert "try fewer sequences" in advice(data=64, zero=3, sequences=99, recompute="blocks")
    assert "it fits" in advice(data=64, zero=3, recompute="blocks")


@for_each(
    ("given", "error", "problem"),
    [
        ({}, ValueError, "give one or two"),
        ({"flops": 1e20, "params": 1e9, "tokens": 1e9}, ValueError, "give one or two"),
        ({"params": 1e9, "model": "gpt2-124m"}, ValueError, "leave params out"),
        ({"params": 1e9, "model": "gpt5"}, LookupError, "did you mean"),
        ({"params": 1e9, "device": "tpu"}, LookupError, "h100-80gb"),
    ],
)
def test_what_does_not_go_together_is_refused_with_the_fix(given, error, problem):
    with pytest.raises(error, match=problem):
        make_plan(PlanConfig(**given))


@for_each(
    ("given", "problem"),
    [
        ({"flops": 1e20, "hours": 1.0}, "give one of them"),
        ({"budget": 10.0}, "give a price"),
        ({"tokens": -1.0}, "above 0"),
        ({"params": 1e9, "utilisation": 40.0}, "at most 1"),
        ({"params": 1e9, "numbers": "int8"}, "mixed, float32"),
        ({"params": 1e9, "layout": {"tensors": 2}}, 'did you mean "tensor"'),
    ],
)
def test_the_config_refuses_what_makes_no_sense(given, problem):
    with pytest.raises(ConfigError, match=problem):
        from_mapping(PlanConfig, given)


def test_numbers_are_written_as_people_do():
    assert [short(value) for value in (6.74e9, 1.4e12, 512, 3.2e20, 12_345)] == [
        "6.74B", "1.40T", "512", "3.20e+20", "12.3k",
    ]  # fmt: skip
    assert readable_bytes(80 * 2**30) == "80.0 GiB" and readable_bytes(100) == "100 bytes"
    assert readable_hours(50) == "2.08 days" and readable_hours(0.001) == "3.60 seconds"


def test_amounts_are_read_as_people_write_them():
    for text, value in (("7B", 7e9), ("1.5t", 1.5e12), ("300M", 3e8)):
        assert from_mapping(PlanConfig, {"params": text}).params == value
    with pytest.raises(ConfigError, match="such as 7e9, 7B"):
        from_mapping(PlanConfig, {"params": "seven"})


@pytest.fixture(autouse=True)
def own_home(tmp_path, monkeypatch):
    monkeypatch.setenv("LMWORKS_HOME", str(tmp_path))


def test_this_machine_is_measured_once_for_each_shape(tmp_path, monkeypatch):
    """The work is done; its times are made up, each longer than the one before, since a busy machine gives any."""
    durations = ((1 + place / 10) / 1000 for place in itertools.count())
    monkeypatch.setattr(
        measured_throughput.Passes, "fastest", lambda self, work, seconds=0.5: work() or next(durations)
    )
    assert kept_calibration(TINY, 2, 64) is None
    first = calibrate(TINY, 2, 64)
    assert calibrate(TINY, 2, 64) == kept_calibration(TINY, 2, 64) == first
    assert len(list(tmp_path.rglob("*.json"))) == 1
    calibrate(replace(TINY, context_length=32), 2, 32)
    assert len(list(tmp_path.rglob("*.json"))) == 2
    # Seven projections first, then one block, two blocks and the optimizer.
    assert (first.sequences, first.length, first.layers) == (2, 64, 3)
    assert (first.block, first.ends) == (pytest.approx(1e-4), pytest.approx(1.6e-3))
    assert first.rate == pytest.approx(train_flops_per_token(TINY, 64) * 128 / 1.9e-3)
    step = first.seconds(count_parameters(TINY), 128, 128)
    assert step == pytest.approx(1.9e-3 + count_parameters(TINY) * first.update)
    assert first.seconds(count_parameters(TINY), 256, 128, devices=2) < 2 * step


def test_a_machine_too_busy_to_be_measured_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(measured_throughput.Passes, "fastest", lambda self, work, seconds=0.5: 1.0)
    with pytest.raises(ValueError, match="something else runs on this machine"):
        calibrate(TINY, 2, 64)
    assert not list(tmp_path.rglob("*.json"))


def test_a_disturbed_measurement_goes_on_until_two_blocks_are_slower(tmp_path, monkeypatch):
    durations = iter([0.1] * 7 + [1.0, 1.0, 1.1, 0.9] * 2 + [0.75, 0.95] + [0.1])
    with monkeypatch.context() as patch:
        patch.setattr(measured_throughput.Passes, "fastest", lambda self, work, seconds=0.5: next(durations))
        found = calibrate(TINY, 2, 64)
    assert (found.ends, found.block) == (pytest.approx(0.6), pytest.approx(0.15))


def test_a_measurement_without_ends_is_not_kept(tmp_path, monkeypatch):
    """Two blocks took more than twice as long as one: something else ran meanwhile, and the next call measures anew."""
    durations = iter([0.1] * 7 + [1.0, 2.5] * 3 + [0.1])
    with monkeypatch.context() as patch:
        patch.setattr(measured_throughput.Passes, "fastest", lambda self, work, seconds=0.5: next(durations))
        found = calibrate(TINY, 2, 64)
    assert (found.ends, found.block) == (0.0, 1.25)
    assert not list(tmp_path.rglob("*.json"))


def test_a_measurement_that_was_disturbed_is_made_again_when_the_machine_is_faster(tmp_path, monkeypatch):
    disturbed, quiet = [0.1] * 7 + [10.0, 10.5] * 3 + [0.1], [0.1] * 7 + [1.0, 1.5] * 3 + [0.1]
    durations = iter([*disturbed, 1.0, *quiet, 1.0, 30.0])  # a look at one block before each measurement but the first
    monkeypatch.setattr(measured_throughput.Passes, "fastest", lambda self, work, seconds=0.5: next(durations))
    found = [calibrate(TINY, 2, 64) for _ in range(4)]
    assert [each.ends for each in found] == [pytest.approx(9.5), *[pytest.approx(0.5)] * 3]
    assert list(durations) == []


@pytest.mark.slow
def test_a_real_measurement_is_of_the_order_of_a_real_step(tmp_path):
    """An order of magnitude: what else runs on the machine decides the rest."""
    config = presets.llama(500, 256, 4, 4, 4, 704, 128)
    told = []
    found = calibrate(config, 2, 128, progress=lambda done, *rest: told.append(done))
    assert told == list(range(1, len(told) + 1)) and len(told) > 40
    assert 1e8 < found.rate < 1e15 and found.rate < 10 * found.products


@for_each(("numbers", "dtype"), [("mixed", "bfloat16"), ("bfloat16", "bfloat16"), ("float32",) * 2])
def test_it_is_measured_in_what_a_run_computes_in(numbers, dtype, monkeypatch):
    """As `train.pretrain` measures it: a plan's hours are then those of the run."""
    found = Calibration(1, 64, 3, 1e-3, 1e-3, 1e-9, products=9e10, rate=1e11, method="1 × 64 tokens")
    asked = []
    monkeypatch.setattr(measured_throughput, "calibrate", lambda *given, **_: asked.append(given) or found)
    measured_speed(TINY, Layout(sequences=2, length=64), numbers)
    ((config, sequences, length, found_dtype, device),) = asked
    assert (config, sequences, length, found_dtype) == (TINY, 2, 64, dtype) and device in ("cpu", "cuda")


def test_an_encoder_decoder_is_not_measured():
    from lmworks.model.presets.sizes import SIZES

    with pytest.raises(ValueError, match="plan with a device"):
        calibrate(SIZES["t5-small"].config)


def test_the_help_teaches():
    text = " ".join(lmworks("--help-all").stdout.split())
    assert "Give one of --flops, --hours" in text and "lmworks plan --hours 8" in text and "recompute" in text
    assert "0.5 for 30 minutes" in text.replace("│ ", "")


def test_the_command_prints_every_section_and_json():
    settings = ("--set", "layout.data=8", "--set", "layout.zero=1")
    arguments = ("--params", "124M", "--model", "gpt2", "--device", "a100-80gb", *settings)
    table = lmworks(*arguments)
    assert table.returncode == 0, table.stderr
    for title in SECTIONS:
        assert title in table.stdout
    made = json.loads(lmworks(*arguments, "--json").stdout)
    assert made["devices"] == 8 and made["memory"]["total"] == pytest.approx(sum(made["memory"]["parts"].values()))
    assert made["allocation"]["parameters"] == 124e6 and made["duration"]["hours"] > 0
    assert set(made["sections"]) == set(SECTIONS)


@pytest.mark.parametrize(("size", "time"), [("gpt2-124m", "some seconds"), ("llama2-7b", "up to some minutes")])
def test_how_long_a_measurement_takes_is_told_by_the_size(size, time, monkeypatch, capsys):
    monkeypatch.setattr(measured_throughput, "is_measured", lambda *_: False)
    monkeypatch.setattr(measured_throughput, "measured_speed", lambda *_, **__: "a speed")
    assert _measure(SIZES[size].config, Layout(), "mixed") == "a speed"
    assert f"parameters, for {time}" in " ".join(capsys.readouterr().err.split())


@for_each(
    ("arguments", "problem"),
    [
        ((), "give one or two of"),
        (("--params", "big"), "such as 7e9, 7B"),
        (("--params", "7B", "--set", "layout.tensors=2"), 'did you mean "tensor"'),
        (("--params", "7B", "--law", "x"), "besiroglu, chinchilla-1"),
    ],
)
def test_an_error_of_the_command_is_one_line_that_names_the_fix(arguments, problem):
    result = lmworks(*arguments)
    assert result.returncode == 2 and problem in result.stderr and "Traceback" not in result.stderr
