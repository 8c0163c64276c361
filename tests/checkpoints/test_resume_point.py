"""Choice of the checkpoint to resume from; detection of damaged checkpoints."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest
import torch

from elc_composer.checkpoints import resume
from elc_composer.checkpoints.integrity import damage, sum_index
from elc_composer.checkpoints.resume import CheckpointsConfig, ResumePoint, ensure_here, find_resume_point, set_aside
from elc_composer.checkpoints.sharded_metadata import read_metadata
from elc_composer.common.errors import ConfigError, DataError
from tests.checkpoints.damage import flip, save, save_sharded


def test_newest_whole_checkpoint_is_taken(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    for step in (9, 10, 100):
        newest = save(tmp_path / f"ba{step}-rank0.pt")
    (tmp_path / "latest-rank0.pt").symlink_to(newest)
    (tmp_path / ".saving").mkdir()
    save(tmp_path / ".saving" / "ba200-rank0.pt")
    config = CheckpointsConfig(save_folder=str(tmp_path))
    point = find_resume_point(config)
    assert point is not None
    assert (point.path, point.step, point.damaged) == (str(newest), 100, ())
    newest.write_bytes(newest.read_bytes()[:300])
    point = find_resume_point(config)
    assert point is not None
    assert point.step == 10
    assert "ba100-rank0.pt is damaged" in caplog.text
    assert len(point.damaged) == 1
    assert set_aside(point) == ["ba100-rank0.pt"]
    assert (tmp_path / "ba100-rank0.pt.damaged").exists()
    again = find_resume_point(config)
    assert again is not None
    assert (again.step, again.damaged) == (10, ())


def test_flipped_bit_is_found_in_full_and_sharded_checkpoints(tmp_path: Path) -> None:
    full, sharded = save(tmp_path / "ba1-rank0.pt"), save_sharded(tmp_path / "ep0-ba2")
    assert damage(full) is None
    assert damage(sharded) is None
    flip(full, full.read_bytes().index(torch.arange(100.0).numpy().tobytes()) + 50)
    assert "checksum" in str(damage(full))
    (part,) = sharded.glob("*.distcp")
    flip(part, part.read_bytes().index(torch.arange(100.0).numpy().tobytes()) + 50)
    assert "checksum" in str(damage(sharded))


HARMS = {
    "no index": "its .metadata is missing",
    "index cut": ".metadata cannot be read",
    "no file": ".distcp is missing",
    "file cut": r".distcp has [\d,]+ of [\d,]+ bytes",
    "foreign index": "none of its code was executed",
}


@pytest.mark.parametrize("harm", list(HARMS))
def test_incomplete_sharded_checkpoints_are_skipped(harm: str, tmp_path: Path) -> None:
    older, newer = save_sharded(tmp_path / "ep0-ba5"), save_sharded(tmp_path / "ep0-ba7")
    (part,) = newer.glob("*.distcp")
    index = newer / ".metadata"
    if harm == "no index":
        index.unlink()
    elif harm == "index cut":
        index.write_bytes(index.read_bytes()[:40])
    elif harm == "no file":
        part.unlink()
    elif harm == "file cut":
        part.write_bytes(part.read_bytes()[:-30])
    else:
        index.write_bytes(b"cos\nsystem\n(S'touch harmed'\ntR.")
    point = find_resume_point(CheckpointsConfig(save_folder=str(tmp_path)))
    assert point is not None
    assert (point.path, point.step) == (str(older), 5)
    assert re.search(HARMS[harm], point.damaged[0])
    assert not Path("harmed").exists()


def test_flipped_bits_in_the_zip_directory_are_found_or_harmless(tmp_path: Path) -> None:
    """The list of members at the end has no checksum; whatever a bit makes of it, it is whole or damaged."""
    path = save(tmp_path / "ba1-rank0.pt")
    content = path.read_bytes()
    loaded = torch.load(path)
    for place in range(content.index(b"PK\x01\x02"), len(content)):
        for bit in (1, 8, 64):
            path.write_bytes(content[:place] + bytes([content[place] ^ bit]) + content[place + 1 :])
            if damage(path) is None:
                assert torch.equal(torch.load(path)["weight"], loaded["weight"]), (place, bit)


def test_flipped_bit_in_the_index_of_a_sharded_checkpoint_is_found(tmp_path: Path) -> None:
    older, newer = save_sharded(tmp_path / "ep0-ba5"), save_sharded(tmp_path / "ep0-ba7")
    index = newer / ".metadata"
    content = index.read_bytes()
    for place in range(0, len(content), 3):
        index.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
        damage(newer)
    index.write_bytes(content)
    sum_index(newer)
    assert damage(newer) is None
    # Another name of a tensor: nothing but the checksum can tell.
    index.write_bytes(content.replace(b"weight", b"weighu"))
    point = find_resume_point(CheckpointsConfig(save_folder=str(tmp_path)))
    assert point is not None
    assert (point.path, point.step) == (str(older), 5)
    assert point.damaged[0].endswith("ep0-ba7: its .metadata does not match its checksum")


def test_run_with_damaged_checkpoints_only_does_not_start_from_step_0(tmp_path: Path) -> None:
    for step in (3, 6):
        (tmp_path / f"ba{step}-rank0.pt").write_bytes(b"half")
    with pytest.raises(
        DataError, match=r"all checkpoints of this run are damaged .*ba6-rank0.pt.*ba3-rank0.pt.*cut off"
    ):
        find_resume_point(CheckpointsConfig(save_folder=str(tmp_path)))


def test_load_path_is_checked(tmp_path: Path) -> None:
    config = CheckpointsConfig(save_folder=str(tmp_path / "none"), load_path=str(tmp_path / "ba3-rank0.pt"))
    with pytest.raises(ConfigError, match="does not exist"):
        find_resume_point(config)
    (tmp_path / "ba3-rank0.pt").write_bytes(b"half")
    with pytest.raises(ConfigError, match="is damaged"):
        find_resume_point(config)
    save(tmp_path / "ba3-rank0.pt")
    point = find_resume_point(config)
    assert point is not None
    assert point.step == 3
    config.load_path = "s3://bucket/ba3-rank0.pt"
    with pytest.raises(ConfigError, match="is an address"):
        find_resume_point(config)


@pytest.mark.parametrize("folder", ["gs://bucket/run", "s3:///run"])
def test_other_stores_are_refused(folder: str) -> None:
    with pytest.raises(ConfigError, match="must be a folder, or s3://bucket/prefix"):
        CheckpointsConfig(save_folder=folder)


@pytest.mark.parametrize("keep", [0, -2])
def test_number_of_kept_checkpoints_is_checked(keep: int) -> None:
    with pytest.raises(ConfigError, match=rf"checkpoints.keep is {keep}; it must be at least 1, or -1"):
        CheckpointsConfig(keep=keep)
    assert (CheckpointsConfig(keep=-1).keep, CheckpointsConfig(keep=1).keep) == (-1, 1)


def test_without_autoresume_only_load_path_counts(tmp_path: Path) -> None:
    save(tmp_path / "saved" / "ba9-rank0.pt")
    other = save(tmp_path / "ba3-rank0.pt")
    folder = str(tmp_path / "saved")
    assert find_resume_point(CheckpointsConfig(save_folder=folder, autoresume=False)) is None
    point = find_resume_point(CheckpointsConfig(save_folder=folder, autoresume=False, load_path=str(other)))
    assert point == ResumePoint(str(other), 3)
    point = find_resume_point(CheckpointsConfig(save_folder=folder, load_path=str(other)))
    assert point is not None
    assert point.step == 9


def test_links_are_not_checkpoints(tmp_path: Path) -> None:
    """Composer's `latest` links, and links of the user: the file that they name may be another run's."""
    whole = save(tmp_path / "ba5-rank0.pt")
    (tmp_path / "ba7-rank0.pt").symlink_to(whole)
    (tmp_path / "ba8-rank0.pt").symlink_to(tmp_path / "nowhere")
    point = find_resume_point(CheckpointsConfig(save_folder=str(tmp_path)))
    assert point == ResumePoint(str(whole), 5)
    assert set_aside(point) == []


def test_only_newer_damaged_checkpoints_are_renamed(tmp_path: Path) -> None:
    for name in ("ba3-rank0.pt", "ep1-ba5-rank0.pt", "ba7-rank0.pt", "notes.txt"):
        (tmp_path / name).write_bytes(b"half")
    save(tmp_path / "ba9-rank0.pt")
    assert set_aside(ResumePoint(str(save(tmp_path / "ba5-rank0.pt")), 5)) == ["ba7-rank0.pt"]
    names = {"ba3-rank0.pt", "ep1-ba5-rank0.pt", "ba5-rank0.pt", "ba7-rank0.pt.damaged", "ba9-rank0.pt", "notes.txt"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_checkpoint_of_rank_0_must_be_on_this_node(tmp_path: Path) -> None:
    config = CheckpointsConfig(save_folder=str(tmp_path))
    ensure_here(ResumePoint(str(save(tmp_path / "ba3-rank0.pt")), 3), config)
    with pytest.raises(DataError, match=r"ba4-rank0\.pt is on the first node only; put .* on a shared disk"):
        ensure_here(ResumePoint(str(tmp_path / "ba4-rank0.pt"), 4), config)


def test_local_copy_is_preferred_to_the_one_in_s3(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched: list[str] = []

    class FakeBucket:
        def __init__(self, address: str) -> None:
            self.address = address

        def steps(self) -> dict[str, int]:
            return {"ba5-rank0.pt": 5, "ba3-rank0.pt": 3}

        def fetch(self, name: str, target: Path) -> None:
            fetched.append(name)
            save(target)

    monkeypatch.setattr(resume, "Bucket", FakeBucket)
    local = save(tmp_path / "checkpoints" / "ba5-rank0.pt")
    config = CheckpointsConfig(save_folder="s3://bucket/run")
    assert find_resume_point(config, str(tmp_path)) == ResumePoint(str(local), 5)
    assert fetched == []
    local.write_bytes(b"half")
    point = find_resume_point(config, str(tmp_path))
    assert point is not None
    assert (point.step, fetched) == (5, ["ba5-rank0.pt"])
    assert "cut off" in point.damaged[0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"relative_path": "../elsewhere.distcp"}, "names a file outside its folder"),
        ({"relative_path": "/elsewhere.distcp"}, "names a file outside its folder"),
        ({"relative_path": 7}, "storage locations are missing"),
        ({"offset": -1}, "storage locations are missing"),
        ({"length": -5}, "storage locations are missing"),
        ({"offset": None}, "storage locations are missing"),
    ],
)
def test_index_with_impossible_places_is_damaged(changes: dict[str, object], message: str, tmp_path: Path) -> None:
    folder = save_sharded(tmp_path / "ep0-ba2")
    metadata = read_metadata(folder)
    info = next(iter(metadata.storage_data.values()))
    for name, value in changes.items():
        setattr(info, name, value)
    (folder / ".metadata").write_bytes(pickle.dumps(metadata))
    with pytest.raises(DataError, match=message):
        read_metadata(folder)
    assert message in str(damage(folder))
