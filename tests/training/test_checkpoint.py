"""Files of weights and resume states: written whole or not at all, and what is read is what was written."""

import pytest
import torch
from torch import nn

from hldm.errors import UserError
from hldm.training.checkpoint import (
    before,
    damage,
    forget_states,
    load_states,
    load_weights,
    remove_damaged,
    save_state,
    save_weights,
)


def test_weights_survive_and_damage_is_named(tmp_path):
    one, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_weights(tmp_path / "w.safetensors", one)
    load_weights(tmp_path / "w.safetensors", other)
    assert torch.equal(one.weight, other.weight)

    with pytest.raises(UserError, match="cannot be used"):
        load_weights(tmp_path / "w.safetensors", nn.Linear(4, 2))
    content = (tmp_path / "w.safetensors").read_bytes()
    (tmp_path / "w.safetensors").write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="are damaged"):
        load_weights(tmp_path / "w.safetensors", other)
    with pytest.raises(UserError, match="no weights"):
        load_weights(tmp_path / "absent.safetensors", other)


def test_no_flipped_bit_of_weights_passes(tmp_path):
    """Either it is said, or what is read is what was written: a bit of the hash's own name does no harm."""
    path = tmp_path / "w.safetensors"
    save_weights(path, model := nn.Linear(3, 2))
    content, unseen = path.read_bytes(), 0
    for position in range(len(content)):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        if damage(path) is None:
            unseen += 1
            load_weights(path, other := nn.Linear(3, 2))
            assert torch.equal(model.weight, other.weight)
            assert torch.equal(model.bias, other.bias)
    assert unseen < 30


def test_no_flipped_bit_of_a_state_passes(tmp_path, capsys):
    path = tmp_path / "state.pt"
    state = {"step": 7, "model": {"w": torch.arange(6.0)}}
    save_state(path, state)
    content, unseen = path.read_bytes(), 0
    for position in range(0, len(content), 3):
        changed = bytearray(content)
        changed[position] ^= 1 << position % 8
        path.write_bytes(changed)
        for _, found in load_states(path):
            unseen += 1
            assert found["step"] == 7
            assert torch.equal(found["model"]["w"], state["model"]["w"])
    assert unseen <= 25  # in the line of the hash itself


def test_weights_of_an_earlier_version_have_no_hash_and_are_taken(tmp_path):
    from safetensors.torch import save_model

    save_model(model := nn.Linear(3, 2), str(tmp_path / "w.safetensors"))
    assert damage(tmp_path / "w.safetensors") is None
    load_weights(tmp_path / "w.safetensors", other := nn.Linear(3, 2))
    assert torch.equal(model.weight, other.weight)


def test_equal_weights_are_equal_files(tmp_path):
    model = nn.Sequential(nn.Linear(3, 2), nn.BatchNorm1d(2))
    for name in "ab":
        save_weights(tmp_path / name, model)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("place", ["first_stages/x/autoencoder.safetensors", "main/x/checkpoints/model.safetensors"])
def test_the_remedy_names_the_folder_that_helps(place, tmp_path):
    path = tmp_path / place
    save_weights(path, nn.Linear(3, 2))
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(UserError, match=f"Move {tmp_path / place.split('/')[0] / 'x'} away and repeat the command"):
        load_weights(path, nn.Linear(3, 2))


def test_damaged_weights_are_removed_and_sound_ones_are_not(tmp_path, capsys):
    path = tmp_path / "w.safetensors"
    remove_damaged(path)
    save_weights(path, nn.Linear(3, 2))
    remove_damaged(path)
    assert path.exists()
    assert capsys.readouterr().out == ""
    path.write_bytes(b"")
    remove_damaged(path)
    assert not path.exists()
    assert "are damaged" in capsys.readouterr().out


def test_states_of_earlier_versions_are_taken(tmp_path):
    torch.save({"step": 3}, tmp_path / "a.pt")
    assert [state for _, state in load_states(tmp_path / "a.pt")] == [{"step": 3}]


def test_the_last_two_states_are_kept(tmp_path):
    path = tmp_path / "a.pt"
    for step in (1, 2, 3):
        save_state(path, {"step": step})
    assert list(load_states(path)) == [(path, {"step": 3}), (before(path), {"step": 2})]
    assert len(list(tmp_path.iterdir())) == 2
    forget_states(path)
    assert list(load_states(path)) == []
    assert list(tmp_path.iterdir()) == []


def test_nothing_in_a_resume_state_is_run(tmp_path, capsys):
    path = tmp_path / "state.pt"

    class Payload:
        def __reduce__(self):
            return (path.with_name("ran").write_text, ("x",))

    torch.save({"step": Payload()}, path)
    assert list(load_states(path)) == []
    assert f"the resume state {path} is damaged" in capsys.readouterr().out
    assert not path.with_name("ran").exists()


def test_a_write_that_fails_leaves_the_old_file_and_no_temporary_one(tmp_path):
    path = tmp_path / "state.pt"
    save_state(path, {"step": 1})
    with pytest.raises(Exception, match=r"pickle|local"):
        save_state(path, {"step": lambda: None})
    assert list(load_states(path)) == [(path, {"step": 1})]
    assert [file.name for file in tmp_path.iterdir()] == ["state.pt"]
