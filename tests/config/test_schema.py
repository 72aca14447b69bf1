"""The JSON schema that editors use: it accepts every shipped file and what a file may say, and rejects mistakes."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import Any

import pytest

from cmtl_ir.base import yaml
from cmtl_ir.cli import main
from cmtl_ir.config.reading import shipped_experiments

ACCEPTED = {
    "a whole file": "name: a\ntasks: {rain: {degradation: rain_streaks}}\nstrategies: {joint: }",
    "one number for a list": "tasks: {noise: {degradation: gaussian_noise, sigma: 25}}",
    "one number for a range": "tasks: {haze: {degradation: haze, beta: 1.5}}",
    "pairs": "tasks: {derain: {input: rainy, target: clean, test: {input: a, target: b}, repeats: 2}}",
    "a named data set": "tasks: {derain: {dataset: rain100l}}",
    "a degradation of a file": "tasks: {own: {degradation: 'my.py:Own', strength: 3}}",
    "a field of a task beneath": "extends: quickstart\ntasks: {noise: {sigma: [50]}, haze: null}",
    "a field of a part beneath": "extends: a.yaml\nstrategies: {x: {surgery: {c: 0.2}}, y: null}",
    "a field of the backbone beneath": "extends: quickstart\nbackbone: {width: 4}\ntraining: {clip: null}",
    "names alone": "backbone: restormer\ntraining: {schedule: constant, optimizer: sgd, loss: charbonnier}",
    "a part of a library": "strategies: {a: {surgery: 'torchjd:UPGrad', retention: {name: 'avalanche:EWC', x: 1}}}",
    "own parts": "strategies: {a: {weighting: 'my.py:HardFirst', auxiliary: [{name: perceptual, weight: 1.0}]}}",
    "training of a strategy": "strategies: {a: {training: {optimizer: {lr: 1e-3}, steps: 10}}}",
    "a part in a part": "strategies: {a: {grouping: {name: random, like: {name: grids, groups: 4}}}}",
    "methods by label": "unlearning: {run: a, forget: [haze], methods: {ssd: {}, b: {name: ascent}, c: scrub}}",
    "a search": "search: {strategy: '*', space: {strategy.surgery: {choice: [null, pcgrad]}}, objectives: [mean_psnr]}",
    "a pruner": "search: {pruner: {name: MedianPruner, n_warmup_steps: 3}, sampler: RandomSampler, trials: 3}",
    "tuning": "tune: {shared: {training.optimizer.lr: {times: [1, 2]}}, own: {art: {a.b: {float: [0, 1]}}}, trials: 4}",
}
REJECTED = {
    "an unknown key": "trainin: {steps: 3}",
    "an unknown nested key": "training: {stpes: 3}",
    "a wrong type": "training: {steps: many}",
    "a misspelt surgery": "strategies: {a: {surgery: pcgrd}}",
    "a misspelt surgery with fields": "strategies: {a: {surgery: {name: cagrd, c: 0.2}}}",
    "a misspelt part": "strategies: {a: {surgry: pcgrad}}",
    "a misspelt field of a part": "strategies: {a: {surgery: {name: cagrad, cc: 0.2}}}",
    "a field of another part": "strategies: {a: {curriculum: {name: joint, order: listed}}}",
    "a part of another family": "strategies: {a: {weighting: pcgrad}}",
    "a misspelt objective": "strategies: {a: {auxiliary: [perceptul]}}",
    "a misspelt degradation": "tasks: {rain: {degradation: rain_streak}}",
    "a misspelt field of a degradation": "tasks: {noise: {degradation: gaussian_noise, sigm: 25}}",
    "a misspelt field of a task beneath": "tasks: {noise: {sigm: 25}}",
    "a field of another degradation": "tasks: {noise: {degradation: gaussian_noise, beta: [1, 2]}}",
    "a list for a word": "tasks: {noise: {degradation: gaussian_noise, quantise: [round]}}",
    "a misspelt backbone": "backbone: nafnett",
    "a misspelt field of a backbone": "backbone: {name: nafnet, widht: 3}",
    "a misspelt loss": "training: {loss: l11}",
    "a misspelt schedule": "training: {schedule: cosin}",
    "a misspelt metric": "evaluation: {metrics: [psnr, sism]}",
    "one seed without a list": "seeds: 3",
    "a misspelt training of a strategy": "strategies: {a: {training: {optimizer: {lrr: 1}}}}",
    "a misspelt method": "unlearning: {run: joint, forget: [haze], methods: {a: {name: sssd}}}",
    "a misspelt key of unlearning": "unlearning: {runs: joint}",
    "a misspelt key of a search": "search: {trails: 3}",
    "a misspelt range": "search: {space: {a.b: {flaot: [0, 1]}}}",
    "a misspelt objective of a search": "search: {objectives: {mean_pnsr: maximize}}",
    "a misspelt key of tuning": "tune: {sharde: {}}",
}


@pytest.fixture(scope="module")
def schema() -> Any:
    """What the command prints."""
    said = io.StringIO()
    with pytest.raises(SystemExit) as ended, redirect_stdout(said):
        main(["schema"])
    assert ended.value.code == 0
    return json.loads(said.getvalue())


@pytest.fixture(scope="module")
def validator(schema: Any) -> Any:
    jsonschema = pytest.importorskip("jsonschema")  # of the extra `test`
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


def test_every_reference_leads_to_a_definition(schema: Any) -> None:
    references = set(_references(schema))
    assert len(references) > 20 and {ref.removeprefix("#/$defs/") for ref in references} <= set(schema["$defs"])
    assert '"pcgrad"' in json.dumps(schema["$defs"]["surgery"])


def _references(value: object) -> list[str]:
    if isinstance(value, dict):
        own = [value["$ref"]] if isinstance(value.get("$ref"), str) else []
        return own + [ref for one in value.values() for ref in _references(one)]
    return [ref for one in value for ref in _references(one)] if isinstance(value, list) else []


def test_training_of_a_strategy_has_no_shared_objectives(schema: Any) -> None:
    definitions = schema["$defs"]
    assert definitions["Strategy"]["properties"]["training"]["anyOf"][0]["$ref"] == "#/$defs/OwnTraining"
    assert "auxiliary" not in definitions["OwnTraining"]["properties"]
    assert "auxiliary" in definitions["TrainingConfig"]["properties"]


def test_every_shipped_file_is_accepted(validator: Any) -> None:
    found = {name: list(validator.iter_errors(yaml.read(path))) for name, path in shipped_experiments().items()}
    assert {name: errors[0].message for name, errors in found.items() if errors} == {}


def test_what_a_file_may_say_is_accepted(validator: Any) -> None:
    found = {what: list(validator.iter_errors(yaml.parse(text))) for what, text in ACCEPTED.items()}
    assert {what: errors[0].message[:300] for what, errors in found.items() if errors} == {}


def test_mistakes_are_rejected(validator: Any) -> None:
    assert [what for what, text in REJECTED.items() if validator.is_valid(yaml.parse(text))] == []
