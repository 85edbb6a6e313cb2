"""Both ways to have the users of all ranks give the same vectors and gradients."""

from dataclasses import replace

import pytest
import torch

from sktwotower._nn.distributed import Shares
from sktwotower._nn.inputs import EntityRows
from sktwotower._nn.segments import Bags
from sktwotower._nn.shared_bags import SharedBags
from sktwotower._nn.spread_users import AddedUpUsers, GatheredUsers
from sktwotower._nn.towers import Tower
from tests._nn.thread_ranks import on_ranks

N_ITEMS, DIM = 7, 4


def rows_of_users(n, *, has_fields, n_appended):
    """Users with ids and features, or with nothing but numbers that are appended."""
    n_fields = int(has_fields)
    return EntityRows(
        id_codes=torch.arange(1, n + 1) if has_fields else None,
        n_ids=n + 1,
        pointers=torch.arange(n)[:, None] * n_fields + torch.arange(n_fields + 1),
        columns=torch.arange(n * n_fields) % 2,
        values=torch.full((n * n_fields,), 0.5),
        field_widths=(2,) * n_fields,
        dense=(torch.rand(n, 3, generator=torch.Generator().manual_seed(3)),) * n_fields,
        appended=torch.arange(1.0, n + 1)[:, None] if n_appended else None,
    )


def bags_of(n):
    """A bag of three items for each user."""
    generator = torch.Generator().manual_seed(1)
    columns = torch.randint(1, N_ITEMS, (3 * n,), generator=generator)
    return Bags(columns, torch.rand(3 * n, generator=generator), torch.arange(n) * 3)


@pytest.mark.parametrize("n_users", [[3, 2], [2, 0, 3]], ids=str)
@pytest.mark.parametrize("has_fields", [False, True])
@pytest.mark.parametrize("n_appended", [0, 1])
def test_added_up_as_gathered(n_users, has_fields, n_appended):
    """Also the gradient of a learned temperature, whose mean over the ranks is taken."""
    n = sum(n_users)
    rows = rows_of_users(n, has_fields=has_fields, n_appended=n_appended)
    bags = bags_of(n)
    upstream = torch.randn(len(n_users), n, DIM + n_appended)

    def call(ranks, *, adds_up):
        generator = torch.Generator().manual_seed(0)
        tower = Tower(
            rows,
            embedding_dim=DIM,
            hidden_layer_sizes=None,
            activation="relu",
            batch_norm=False,
            dropout=0.0,
            normalize=True,
            generator=generator,
            n_history_items=N_ITEMS,
        )
        temperature = torch.tensor(0.5, requires_grad=True)
        shares = Shares(ranks, n_users)
        own = torch.arange(n)[shares.n_before :][: shares.n_own]
        inputs = replace(
            rows.take(own),
            history=SharedBags.of([bags.lengths, bags.columns, bags.values], shares),
        )
        if adds_up:
            users = AddedUpUsers(tower, inputs, temperature, generator)
        else:
            users = GatheredUsers(shares, tower(inputs) / temperature)
        vectors = users.vectors()
        assert not vectors.requires_grad
        users.send(upstream[ranks.rank])
        users.backward()
        weights = [temperature, *tower.parameters()]
        return vectors, [ranks.sum(weight.grad) for weight in weights]

    def found(**options):
        return on_ranks(len(n_users), lambda ranks: call(ranks, **options))

    for one, other in zip(found(adds_up=True), found(adds_up=False), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-5, atol=1e-6)
