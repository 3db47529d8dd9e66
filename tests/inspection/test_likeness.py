"""Labels that their witness foretells, and those of others."""

import torch

from distill.inspection.likeness import Likeness


def pairs(count, seed=0):
    """Three random shapes on a common one; the witness sees them with errors."""
    draw = torch.Generator().manual_seed(seed)
    shapes = torch.randn(3, 256, generator=torch.Generator().manual_seed(99))
    common = torch.linspace(-20, 20, 256)
    said = torch.randn(count, 3, generator=draw)
    noise = 0.3 * torch.randn(2, count, 256, generator=draw)
    return common + said @ shapes + noise[0], common + said @ shapes + noise[1]


def test_a_label_is_likelier_than_another_although_all_correlate():
    likeness = Likeness(*pairs(200))
    labels, witnesses = pairs(100, seed=1)
    strange = labels.roll(50, 0)
    assert torch.corrcoef(torch.stack([strange[0], witnesses[0]]))[0, 1] > 0.9
    own, other = likeness.odds(labels, witnesses), likeness.odds(strange, witnesses)
    assert float((own > other).double().mean()) > 0.98
    away = likeness.strangeness(labels, witnesses)[:, 0]
    assert float(likeness.strangeness(strange, witnesses)[:, 0].median()) > float(away.max())


def test_what_mirroring_adds_has_the_sign_of_what_was_mirrored():
    likeness = Likeness(*pairs(200))
    labels, witnesses = pairs(50, seed=2)
    mirrored = labels.view(-1, 16, 16).flip(-1).flatten(1)
    assert float(likeness.strangeness(labels, witnesses)[:, 1].max()) < 0
    straight, turned = (likeness.strangeness(m, witnesses)[:, 1] for m in (labels, mirrored))
    assert torch.allclose(straight, -turned)


def test_a_few_wrong_labels_do_not_teach():
    labels, witnesses = pairs(200)
    spoilt = labels.clone()
    spoilt[::20] = -3 * spoilt[::20]
    new = pairs(50, seed=3)
    strange = new[0].roll(25, 0)
    likeness = Likeness(spoilt, witnesses)
    assert float((likeness.odds(*new) > likeness.odds(strange, new[1])).double().mean()) > 0.95


def test_answers_do_not_depend_on_what_is_judged_beside():
    likeness, (labels, witnesses) = Likeness(*pairs(60)), pairs(5, seed=4)
    together = likeness.strangeness(labels, witnesses)
    alone = torch.cat(
        [likeness.strangeness(labels[i : i + 1], witnesses[i : i + 1]) for i in range(5)]
    )
    assert torch.allclose(together, alone)


def test_constant_maps_are_answered_with_numbers():
    flat = torch.zeros(8, 256)
    assert Likeness(flat, flat).strangeness(flat, flat).isfinite().all()
