"""Dataclasses of tensors: set once, equal only to themselves."""

import copy
import pickle
from dataclasses import FrozenInstanceError, field, fields, replace

import pytest
import torch

from sktwotower._nn.records import Record


class Pair(Record):
    left: torch.Tensor
    right: dict = field(default_factory=dict)


class Named(Pair, kw_only=True):
    name: str


def test_fields_are_set_once():
    pair = Pair(torch.ones(2))
    with pytest.raises(FrozenInstanceError, match="'left'"):
        pair.left = torch.zeros(2)
    assert pair.right == {} and pair.left.all()


def test_a_subclass_has_the_fields_of_both():
    assert [f.name for f in fields(Named)] == ["left", "right", "name"]
    with pytest.raises(TypeError, match="positional"):
        Named(torch.ones(2), {}, "x")
    named = replace(Named(torch.ones(2), name="x"), name="y")
    assert named.name == "y" and len(named.left) == 2


def test_records_are_equal_only_to_themselves():
    pair = Pair(torch.ones(2))
    assert pair == pair and pair != Pair(pair.left) and len({pair, pair}) == 1


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy])
def test_records_are_copied(copied):
    assert copied(Pair(torch.ones(2))).left.all()


def test_records_are_pickled():
    named = pickle.loads(pickle.dumps(Named(torch.ones(2), name="x")))
    assert named.name == "x" and named.left.all()
