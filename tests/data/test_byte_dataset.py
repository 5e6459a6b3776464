"""Windows of bytes: which bytes, how often, and the same again after a resume."""

import numpy as np
import pytest

import helixml as hx
from helixml.data import ByteDataset, TrainingWindows
from helixml.data.corpus import PLAYS_SHA256
from helixml.errors import DataError
from helixml.random import Rng


def counting(size):
    """Return bytes that name their own place, modulo 251."""
    return (np.arange(size) % 251).astype(np.uint8)


def windows(size, *, context, batch_size=1, seed=0, split=None):
    dataset = ByteDataset([counting(size)], training_bytes=split or size - 1)
    return TrainingWindows(dataset, context=context, batch_size=batch_size, rng=Rng(seed))


def test_targets_are_the_bytes_that_follow_the_inputs():
    inputs, targets = windows(500, context=20, batch_size=3).batch(4)
    assert inputs.shape == targets.shape == (3, 20)
    assert inputs.dtype == targets.dtype == np.int64
    assert np.array_equal((inputs.numpy() + 1) % 251, targets.numpy())


def test_a_batch_depends_on_seed_and_step_alone():
    forward = [
        windows(500, context=20, batch_size=3, seed=7).batch(i)[0].numpy() for i in range(30)
    ]
    jumping = windows(500, context=20, batch_size=3, seed=7)
    for step in (29, 3, 17, 0):
        assert np.array_equal(jumping.batch(step)[0].numpy(), forward[step])
    other = windows(500, context=20, batch_size=3, seed=8)
    assert not np.array_equal(other.batch(0)[0].numpy(), forward[0])


def test_a_pass_reads_no_byte_twice_and_nearly_all_once():
    drawn = windows(250, context=16, batch_size=1)
    per_pass = drawn._per_pass
    for number in range(3):
        places = np.concatenate(
            [drawn.batch(number * per_pass + i)[1].numpy().ravel() for i in range(per_pass)]
        )
        assert len(set(places.tolist())) == len(places) >= 250 - 3 * 16


def test_passes_cut_the_text_in_different_places():
    drawn = windows(250, context=16)
    starts = [int(drawn.batch(i)[0].numpy()[0, 0]) % 16 for i in range(0, 140, 14)]
    assert len(set(starts)) > 3


@pytest.mark.parametrize("size", [17, 18, 31, 32, 33, 48])
def test_the_shortest_texts_still_give_windows_inside_the_training_part(size):
    drawn = windows(size + 5, context=16, split=size)
    for step in range(40):
        assert drawn.batch(step)[1].numpy().max() <= size - 1


def test_a_text_shorter_than_the_context_says_so():
    with pytest.raises(DataError, match=r"has 16 bytes; a context of 16 needs 17\. Hint: "):
        windows(21, context=16, split=16)


def test_nothing_is_left_to_hold_out():
    for size in (0, 1):
        with pytest.raises(DataError, match=f"{size} bytes cannot be split"):
            ByteDataset([counting(size)])
    with pytest.raises(DataError, match="0 bytes cannot be split"):
        ByteDataset([])


def test_held_out_windows_cover_every_byte_once_after_a_newline():
    dataset = ByteDataset([counting(1000)], training_bytes=700)
    batches = list(dataset.held_out(window=64, batch_size=3))
    assert [inputs.shape for inputs, _ in batches] == [(3, 64), (1, 64), (1, 44)]
    seen = np.concatenate([targets.numpy().ravel() for _, targets in batches])
    assert np.array_equal(seen, counting(1000)[700:])
    for inputs, targets in batches:
        assert (inputs.numpy()[:, 0] == ord("\n")).all()
        assert np.array_equal(inputs.numpy()[:, 1:], targets.numpy()[:, :-1])


def test_held_out_text_of_whole_windows_has_no_short_one():
    dataset = ByteDataset([counting(1000)], training_bytes=1000 - 128)
    assert [x.shape for x, _ in dataset.held_out(window=64, batch_size=2)] == [(2, 64)]


def test_several_files_read_as_one_text(tmp_path):
    text = counting(100).tobytes()
    cuts = [0, 1, 40, 41, 100]
    paths = [tmp_path / str(i) for i in range(4)]
    for path, start, stop in zip(paths, cuts, cuts[1:], strict=False):
        path.write_bytes(text[start:stop])
    dataset = ByteDataset.from_files(paths)
    whole = ByteDataset([counting(100)])
    assert (dataset.size, dataset.training_bytes, dataset.held_out_bytes) == (100, 90, 10)
    assert dataset.sha256() == whole.sha256()
    for start in range(100):
        for stop in (start + 1, min(start + 39, 100), 100):
            assert dataset.read(start, stop).tobytes() == text[start:stop]


def test_the_plays_have_their_fixed_split():
    plays = ByteDataset.plays()
    assert (plays.training_bytes, plays.held_out_bytes) == (4_461_585, 495_731)
    assert plays.sha256() == PLAYS_SHA256


def test_batches_are_tensors_a_model_may_take():
    inputs, _ = windows(100, context=8).batch(0)
    assert isinstance(inputs, hx.Tensor)
