"""Planted biases are found, and where none is planted each is reported no more often than its interval allows."""

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom

from judge_cases import PlantedEngine, yes_no
from lmworks.artefact import write_json
from lmworks.config import to_mapping
from lmworks.evaluate.confidence_metrics import expected_calibration_error
from lmworks.evaluate.judge import JUDGE, Judge, Rubric, calibrated
from lmworks.evaluate.judge_calibration import Labelled, calibrate, read_labelled
from lmworks.records import Message, Preference, Scored, Unscored

POINT = Rubric("point", "{response}", {"yes": 1, "no": 0}, paraphrases=("Again: {response}", "More: {response}"))
PAIR = Rubric("pair", "A: {first}\nB: {second}", {"A": 1, "B": 0})


def response(generator: np.random.Generator, good: bool) -> str:
    """Words of a random number, marks of a random number, and how good it is in one of them."""
    words = ["w"] * int(generator.integers(5, 80)) + ["wow!"] * int(generator.integers(0, 6))
    return " ".join([f"quality{int(good)}", f"id{generator.integers(1 << 40)}", *generator.permutation(words)])


def logit(text: str, length: float = 0, style: float = 0, own: float = 0) -> float:
    """What the planted judge thinks: the quality with noise of its own, and the biases."""
    noise = 1.5 * np.random.default_rng(zlib.crc32(text.encode())).normal()
    quality = 1.0 if "quality1" in text else -1.0
    words, marks = np.log2(1 + len(text.split())) - 5.3, np.log2(1 + text.count("!")) - 1.6
    return quality + noise + length * words + style * marks + own * ("by-me" in text)


def points(n: int, seed: int) -> list[Labelled]:
    generator, rows = np.random.default_rng(seed), []
    for number in range(n):
        good, mine = bool(generator.random() < 0.5), bool(generator.random() < 0.5)
        text = response(generator, good) + (" by-me" if mine else " by-it")
        rows.append(Labelled({"response": text}, float(good), str(number // 2), ("me" if mine else "it",)))
    return rows


def pairs(n: int, seed: int) -> list[Labelled]:
    generator, rows = np.random.default_rng(seed), []
    for number in range(n):
        first = bool(generator.random() < 0.5)
        texts = {"first": response(generator, first), "second": response(generator, not first)}
        mine = bool(generator.random() < 0.5)
        texts = {
            name: f"{text} by-{'me' if one else 'it'}"
            for (name, text), one in zip(texts.items(), (mine, not mine), strict=True)
        }
        rows.append(Labelled(texts, float(first), str(number), ("me", "it") if mine else ("it", "me")))
    return rows


def point_judge(paraphrase: float = 0, **biases: float) -> Judge:
    def mind(prompt: str) -> dict[str, float]:
        text = prompt.removeprefix("Again: ").removeprefix("More: ")
        return yes_no(logit(text, **biases) + paraphrase * (text != prompt))

    return Judge(PlantedEngine(mind), POINT)


def pair_judge(position: float = 0, **biases: float) -> Judge:
    def mind(prompt: str) -> dict[str, float]:
        first, second = prompt.removeprefix("A: ").split("\nB: ")
        value = yes_no(logit(first, **biases) - logit(second, **biases) + position)
        return {"A": value["yes"], "B": value["no"]}

    return Judge(PlantedEngine(mind), PAIR)


def found(score) -> bool:
    """Whether the interval leaves 0 out."""
    assert isinstance(score, Scored)
    return not score.interval[0] <= 0 <= score.interval[1]


BIASES = {"length": "length", "style": "style", "own": "self-preference"}


@pytest.fixture
def biases_alone(monkeypatch) -> None:
    """Without the other figures, which take long."""
    for name in ("spearman", "cohen_kappa", "krippendorff_alpha", "score"):
        monkeypatch.setattr(f"lmworks.evaluate.judge_calibration.{name}", lambda *_, **__: Unscored("not asked"))


@pytest.mark.parametrize("make, rows", [(point_judge, points), (pair_judge, pairs)], ids=["point", "pair"])
def test_a_planted_bias_is_found_and_not_taken_for_another(make, rows, biases_alone):
    """Beside the same judge without it: how far each slope moves."""
    fair = calibrate(make(), rows(300, 7), own="me").figures
    for bias in BIASES:
        biased = calibrate(make(**{bias: 1.0}), rows(300, 7), own="me").figures
        assert found(biased[BIASES[bias]])
        moved = {name: biased[figure].value - fair[figure].value for name, figure in BIASES.items()}
        assert moved.pop(bias) > 0.08 > 0.03 > max(map(abs, moved.values()))


def test_position_bias_is_found_and_costs_consistency():
    fair, biased = (calibrate(pair_judge(position), pairs(300, 3)).figures for position in (0.0, 1.5))
    assert not found(fair["position"]) and found(biased["position"])
    assert fair["swap consistency"].value == 1.0  # no pair of texts is judged otherwise when swapped
    assert biased["swap consistency"].interval[1] < 1.0
    assert fair["swap consistency"].interval[0] < 1.0  # Wilson's


def test_a_wording_that_moves_the_judge_is_found():
    plain, moved = (calibrate(point_judge(paraphrase=size), points(200, 5)).figures for size in (0.0, 2.0))
    assert plain["paraphrase deviation"].value == 0.0 and plain["paraphrase flips"].value == 0.0
    assert moved["paraphrase deviation"].interval[0] > 0.05 and moved["paraphrase flips"].interval[0] > 0.1


@pytest.mark.slow
@pytest.mark.parametrize("make, rows", [(point_judge, points), (pair_judge, pairs)], ids=["point", "pair"])
def test_without_a_bias_each_is_reported_at_the_nominal_rate(make, rows, monkeypatch, biases_alone):
    """As often as the binomial of 5 % over 250 simulated sets of rows allows, but for one of 200 runs of this test."""

    def without_tokens(self: Judge, rows) -> list[np.ndarray]:
        return [np.array([*self.engine.mind(self.rubric.render(row)).values()]) for row in rows]

    monkeypatch.setattr(Judge, "_read", without_tokens)
    runs, judge = 250, replace(make(), rubric=replace(make().rubric, paraphrases=()))
    names = [*BIASES.values(), *(["position"] if make is pair_judge else [])]
    figures = [calibrate(judge, rows(120, 1000 + seed), own="me").figures for seed in range(runs)]
    alarms = {name: sum(found(each[name]) for each in figures) for name in names}
    assert max(alarms.values()) <= binom.ppf(0.995, runs, 0.05), alarms


def test_agreement_is_that_of_the_references():
    from krippendorff import alpha
    from scipy.stats import spearmanr
    from sklearn.metrics import cohen_kappa_score

    by = Rubric("scale", "{response}", {str(i): i for i in range(1, 6)})
    generator = np.random.default_rng(0)
    rows = [Labelled({"response": f"r{i}"}, float(h), str(i)) for i, h in enumerate(generator.integers(1, 6, 80))]
    minds = {
        row.texts["response"]: dict(zip("12345", generator.normal(size=5) + 2 * (by.values == row.human), strict=True))
        for row in rows
    }
    judge = Judge(PlantedEngine(lambda prompt: minds[prompt]), by)
    figures = calibrate(judge, rows).figures
    judged = judge.judgements([row.texts for row in rows])
    human, verdict = [row.human for row in rows], [float(each.verdict) for each in judged]
    kappa = cohen_kappa_score(human, verdict, weights="quadratic")
    assert figures["Cohen's kappa"].value == pytest.approx(kappa, abs=1e-9)
    level = {"level_of_measurement": "interval"}
    assert figures["Krippendorff's alpha"].value == pytest.approx(alpha([human, verdict], **level), abs=1e-9)
    rho = spearmanr(human, [each.value for each in judged]).statistic
    assert figures["Spearman's rho"].value == pytest.approx(rho, abs=1e-12)
    right = [h == v for h, v in zip(human, verdict, strict=True)]
    confidence = [each.confidence for each in judged]
    assert figures["accuracy"].value == pytest.approx(np.mean(right), abs=1e-12)
    assert figures["calibration error"].value == pytest.approx(expected_calibration_error(confidence, right), abs=1e-12)


def test_slopes_are_least_squares():
    import statsmodels.api as sm

    rows = points(200, 11)
    judge = point_judge(length=0.4, style=0.2)
    figures = calibrate(judge, rows, own="me").figures
    text = [row.texts["response"] for row in rows]
    design = np.column_stack([
        np.ones(200), [row.human for row in rows], [np.log2(1 + len(t.split())) for t in text],
        [np.log2(1 + t.count("!")) for t in text], [row.writers == ("me",) for row in rows],
    ])  # fmt: skip
    fit = sm.OLS([each.value for each in judge.judgements([row.texts for row in rows])], design).fit()
    cluster = [int(row.cluster) for row in rows]
    robust = fit.get_robustcov_results("cluster", groups=cluster).conf_int()
    for place, name in enumerate(("length", "style", "self-preference"), 2):
        assert figures[name].value == pytest.approx(fit.params[place], abs=1e-9)
        width = robust[place][1] - robust[place][0]
        assert figures[name].interval == pytest.approx(tuple(robust[place]), abs=0.15 * width)


def test_a_judge_that_guesses_is_said_to_and_no_gate_takes_it(tmp_path):
    rows = points(200, 2)
    blind = Judge(PlantedEngine(lambda prompt: yes_no(0.1 * (zlib.crc32(prompt.encode()) % 7 - 3))), POINT)
    bad, good = calibrate(blind, rows), calibrate(point_judge(), rows)
    assert not bad.useful and "no better than" in bad.verdict and good.useful
    for name, calibration in {"bad": bad, "good": good}.items():
        write_json(tmp_path / name / JUDGE, calibration)
    assert calibrated(tmp_path / "good", POINT, "planted") == good
    for folder, by, model, why in [
        (None, POINT, "planted", "before it is calibrated"),
        (tmp_path / "bad", POINT, "planted", "no better"),
        (tmp_path / "good", replace(POINT, prompt="Other: {response}", paraphrases=()), "planted", "another wording"),
        (tmp_path / "good", POINT, "another", "another model"),
    ]:
        with pytest.raises(ValueError, match=f"{why}.*lmworks judge calibrate"):
            calibrated(folder, by, model)
    engine = point_judge().engine
    assert calibrated(str(tmp_path / "good"), POINT, engine) == good
    assert calibrate(Judge(engine, POINT, calibration=str(tmp_path / "good")), rows) == good
    for folder, by in [("bad", POINT), ("none", POINT), ("good", PAIR)]:
        with pytest.raises(ValueError, match="lmworks judge calibrate"):
            Judge(engine, by, calibration=str(tmp_path / folder))


def test_the_threshold_is_scored_on_rows_that_it_was_not_chosen_on():
    """A judge shifted by a constant is always wrong at one half, and as good as its ranking at its own threshold."""
    shifted = Judge(PlantedEngine(lambda prompt: yes_no(logit(prompt) - 6)), replace(POINT, paraphrases=()))
    found_ = calibrate(shifted, points(300, 9))
    assert found_.figures["accuracy"].value < 0.6 < 0.65 < found_.figures["accuracy at threshold"].value
    assert found_.threshold < 0.1 and 100 < found_.figures["accuracy at threshold"].n < 200


def test_rows_are_read_with_their_labels_and_refused_with_their_number(tmp_path):
    path = tmp_path / "rows.jsonl"

    def read(by: Rubric, *rows: object) -> list[Labelled]:
        path.write_text("".join(json.dumps(row) + "\n" for row in rows))
        return read_labelled(path, by)

    one, two = read(
        POINT, {"prompt": "q", "response": "a", "label": True}, {"prompt": "q", "response": "b", "label": "no"}
    )
    assert (one.human, two.human, one.cluster, two.cluster) == (1.0, 0.0, "q", "q")
    with pytest.raises(ValueError, match="row 2 has the label 'maybe'"):
        read(POINT, {"response": "a", "label": "yes"}, {"response": "b", "label": "maybe"})
    with pytest.raises(ValueError, match="row 1 has the label 7"):
        read(POINT, {"response": "a", "rating": 7})
    with pytest.raises(ValueError, match="one label"):
        read(POINT, {"response": "a", "label": True}, {"response": "b", "label": True})
    with pytest.raises(ValueError, match="row 1 has no chosen and rejected"):
        read(PAIR, {"response": "a"})
    question = (Message("user", "q"),)
    both = read(PAIR, *(to_mapping(Preference(question, (Message("assistant", f"c{i}"),), "r")) for i in range(40)))
    assert {row.human for row in both} == {0.0, 1.0}
    assert all(row.texts["first" if row.human == 1 else "second"].startswith("c") for row in both)


def test_what_rows_do_not_tell_is_unscored():
    figures = calibrate(point_judge(), [replace(row, writers=()) for row in points(40, 1)], own="me").figures
    assert all(isinstance(figures[name], Unscored) for name in ("self-preference", "swap consistency"))
