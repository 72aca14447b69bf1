"""InstructIR. Shapes: B images, C channels of a level, H x W pixels of a level, D numbers per instruction, K tasks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cmtl_ir.backbones._layers import pad_to
from cmtl_ir.backbones.nafnet import Block, NAFNet
from cmtl_ir.base import keyed


class InstructionHead(nn.Module):
    """The authors' one-layer language head: sentence vector [B, 384] -> instruction [B, 256], class logits [B, 7].

    The sentence vector is the mean of the last hidden states of TaylorAI/bge-micro-v2 over the attention mask, divided
    by its norm. The classes are noise, blur, rain, haze, low light, enhancement and upsampling. Keys are those of the
    authors' separate checkpoint of the head.
    """

    def __init__(self, *, sentence: int = 384, text: int = 256, classes: int = 7) -> None:
        super().__init__()
        self.fc1 = nn.Linear(sentence, text)
        self.fc2 = nn.Linear(text, classes)

    def forward(self, sentence: Tensor) -> tuple[Tensor, Tensor]:
        """Return instructions of unit norm [B, text] and class logits [B, classes]."""
        instruction = F.normalize(self.fc1(sentence), dim=1)
        return instruction, self.fc2(instruction)


class InstructionBlock(nn.Module):
    """ICB: scale and gate the features by the instruction, apply a NAFNet block and add; starts as the identity."""

    def __init__(self, channels: int, text: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.gamma = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.fc = nn.Linear(text, channels)
        self.block = Block(channels, window=None)

    def forward(self, x: Tensor, instruction: Tensor) -> Tensor:  # [B, C, H, W], [B, D] -> [B, C, H, W]
        gate = self.fc(instruction).sigmoid()[:, :, None, None]
        return x + self.block((x * self.gamma + self.beta) * gate)


def keyed_instructions(tasks: int, text: int) -> Tensor:
    """Unit vectors [K, D], one per task number, as pure functions of the number."""
    keys = keyed.keys_of(keyed.name_key("InstructIR"), torch.arange(tasks))
    return F.normalize(keyed.normal(keys, (text,)).to(torch.get_default_dtype()), dim=1)


class InstructIR(NAFNet):
    """High-Quality Image Restoration Following Human Instructions (Conde, Geigle, Timofte, ECCV 2024, 2401.16468).

    NAFNet with an instruction block after every encoder and decoder stage. The instruction is a vector of unit norm,
    [B, `text`]. Pass it as `text` (for example from `InstructionHead`), or the network takes one from the task number:
    `instructions: fixed` assigns a constant vector to each of the `tasks` numbers, `instructions: learned` trains a
    table that starts with the same vectors. Without `text` and `task` it uses the normalised mean over all tasks.
    Any H and W: zeros are added right and bottom up to a multiple of 2^levels and cropped after.

    Departures: no language model is included, and the learned table (one more key, `instruction_table`) replaces the
    sentences and their classification loss. The authors' weights (MIT licence) load strictly with `fixed`; with these
    weights pass `text`.
    """

    latent_module: ClassVar[str] = "middle_blks"
    instruction_table: Tensor  # [K, D]

    def __init__(
        self,
        *,
        width: int = 32,
        encoder: Sequence[int] = (2, 2, 4, 8),
        middle: int = 4,
        decoder: Sequence[int] = (2, 2, 2, 2),
        text: int = 256,
        tasks: int = 7,
        instructions: Literal["fixed", "learned"] = "fixed",
    ) -> None:
        super().__init__(width=width, encoder=encoder, middle=middle, decoder=decoder)
        levels = range(len(encoder))
        self.enc_cond = nn.ModuleList(InstructionBlock(width << level, text) for level in levels)
        self.dec_cond = nn.ModuleList(InstructionBlock(width << level, text) for level in reversed(levels))
        table = keyed_instructions(tasks, text)
        if instructions == "learned":
            self.instruction_table = nn.Parameter(table)
        else:
            self.register_buffer("instruction_table", table, persistent=False)

    def forward(
        self,
        x: Tensor,  # [B, 3, H, W] -> [B, 3, H, W]
        task: Tensor | None = None,  # [B]
        text: Tensor | None = None,  # [B, D]
    ) -> Tensor:
        height, width = x.shape[-2:]
        instruction = self._of_tasks(x, task) if text is None else text
        padded = pad_to(x, self.multiple, "constant")
        h = self.intro(padded)
        skips: list[Tensor] = []
        for encoder, condition, down in zip(self.encoders, self.enc_cond, self.downs, strict=True):
            skips.append(condition(encoder(h), instruction))
            h = down(skips[-1])
        h = self.middle_blks(h)
        decoders = zip(self.decoders, self.dec_cond, self.ups, reversed(skips), strict=True)
        for decoder, condition, up, skip in decoders:
            h = condition(decoder(up(h) + skip), instruction)
        return (self.ending(h) + padded)[:, :, :height, :width]

    def _of_tasks(self, x: Tensor, task: Tensor | None) -> Tensor:  # [B] -> [B, D]
        count = len(self.instruction_table)
        shares = x.new_full((len(x), count), 1 / count) if task is None else F.one_hot(task, count).to(x.dtype)
        return F.normalize(F.linear(shares, self.instruction_table.T), dim=1)
