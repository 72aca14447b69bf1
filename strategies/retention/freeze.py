"""Freezing of a part of the network."""

from __future__ import annotations

from fnmatch import fnmatch

from pydantic import Field, PrivateAttr
from torch import nn

from cmtl_ir.base.errors import ConfigError, suggestion
from cmtl_ir.strategy.data import Learner, Stage
from cmtl_ir.strategy.parts import Retention
from cmtl_ir.strategy.registry import register


@register
class Freeze(Retention):
    """Parameters of given names, frozen as the first stages left them (the oldest protection; no paper).

    They get no gradient at all, so momentum and weight decay do not change them either. They are bit-equal after any
    step.
    """

    patterns: list[str] = Field(min_length=1)
    """Shell patterns of parameter names, such as `encoder*`. Names are those of the backbone's state dict."""
    after: int = Field(1, ge=0)
    """Number of first stages that train everything."""

    _frozen: list[nn.Parameter] = PrivateAttr(default_factory=list)

    def begin_stage(self, stage: Stage, learner: Learner) -> None:
        """Raise ConfigError before training if a pattern matches no parameter, or if all parameters match."""
        self.matching(learner.model)
        self.state["stages"] = self.state.get("stages", 0) + 1

    def enter_stage(self, stage: Stage, learner: Learner) -> None:
        """Freeze the matching parameters once enough stages have trained everything."""
        if self.state["stages"] > self.after:
            self._frozen = [one for one in self.matching(learner.model) if one.requires_grad]
            for parameter in self._frozen:
                parameter.requires_grad_(False)

    def end_stage(self, stage: Stage, learner: Learner) -> None:
        """Unfreeze, so that the next stage's optimizer holds the same parameters as in a resumed run."""
        for parameter in self._frozen:
            parameter.requires_grad_(True)
        self._frozen = []

    def matching(self, model: nn.Module) -> list[nn.Parameter]:
        """Return the matching parameters. Raise ConfigError if a pattern matches none, or if all parameters match."""
        named = dict(model.named_parameters())
        for pattern in self.patterns:
            if not any(fnmatch(name, pattern) for name in named):
                raise ConfigError(
                    f"retention.patterns: no parameter matches {pattern!r}; {suggestion(pattern, [*named])}"
                )
        found = [p for name, p in named.items() if any(fnmatch(name, pattern) for pattern in self.patterns)]
        if len(found) == len(named):
            raise ConfigError(f"retention.patterns: {self.patterns} freeze the whole network; nothing would be learnt")
        return found
