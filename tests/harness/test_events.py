"""The event file: what is written is what is read, broken files are refused in one line, shards become one run."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from conformance.events import FULL_PROGRAMS, DivergenceRecorder, EventLog, RunError, locate, merge, read
from tests.helpers import synthetic_batch, synthetic_divergence, synthetic_end, synthetic_events, synthetic_start


def written(folder: Path, *events: Any, name: str = "events.jsonl") -> Path:
    with EventLog(folder / name) as log:
        for event in events:
            log.write(event)
    return folder / name


def refusal(path: Path) -> str:
    with pytest.raises(RunError) as caught:
        read(path)
    message = str(caught.value)
    assert "\n" not in message and str(path) in message
    return message


def changed(path: Path, old: str, new: str) -> Path:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))
    return path


def test_events_read_back_as_they_were_written_infinities_included(tmp_path: Path) -> None:
    events = synthetic_events([(synthetic_divergence(ulps=math.inf), "new")], known=[("exp-bf16", "stale")])
    back = read(written(tmp_path, *events))
    assert back[3]["divergence"]["evidence"]["elements"][0]["ulps"] == math.inf
    assert [event["type"] for event in back] == ["start", "known", "batch", "divergence", "end"]
    assert [dict(event, divergence=None) for event in back] == [dict(event, divergence=None) for event in events]


def test_a_written_line_is_strict_json(tmp_path: Path) -> None:
    path = written(tmp_path, *synthetic_events([(synthetic_divergence(ulps=math.inf), "new")]))
    assert "Infinity" not in path.read_text() and '{"nonfinite":"inf"}' in path.read_text()


def test_every_event_is_in_the_file_before_the_next_arises(tmp_path: Path) -> None:
    log = EventLog(tmp_path / "events.jsonl")
    log.write(synthetic_start())
    assert [event["type"] for event in read(tmp_path)] == ["start"]
    log.close()


def test_a_log_appends_to_what_is_there(tmp_path: Path) -> None:
    written(tmp_path, synthetic_start())
    assert len(read(written(tmp_path, synthetic_end()))) == 2


def test_a_last_line_that_a_kill_cut_off_is_dropped(tmp_path: Path) -> None:
    path = written(tmp_path, synthetic_start(), synthetic_batch())
    path.write_bytes(path.read_bytes()[:-20])
    assert [event["type"] for event in read(path)] == ["start"]


def test_a_log_that_cannot_be_written_says_so_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"^.*file/events\.jsonl: cannot be written \(not a directory\); choose another folder with --out$"):
        EventLog(tmp_path / "file" / "events.jsonl")


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"type":"batch"', '"type":"bash"', "no event"),
        ('"judged":98,', "", 'without "judged"'),
        ('"judged":98', '"judged":"many"', "whose \"judged\" is str 'many'"),
        ('"judged":98', '"judged":true', 'whose "judged" is bool'),
        ('"seed":20261124', '"seed":"x"', 'whose "seed" is str'),
        ('"schema":1', '"schema":2', "schema 2 is newer than 1"),
        ('{"type":"batch"', '"type":"batch"', ":2: not JSON"),
        ('"seconds":10.0', '"seconds":null', 'whose "seconds" is NoneType'),
    ],
)
def test_a_broken_line_is_refused_with_its_place(tmp_path: Path, old: str, new: str, says: str) -> None:
    assert says in refusal(changed(written(tmp_path, synthetic_start(), synthetic_batch(), synthetic_end()), old, new))


def test_an_id_that_could_name_another_file_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, *synthetic_events([(synthetic_divergence(), "new")]))
    assert "six hex digits were expected" in refusal(changed(path, f'"id":"{synthetic_divergence().key.id}"', '"id":"../../x"'))


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b'{"type"\xff}\n')
    assert "not UTF-8 at byte 7" in refusal(tmp_path / "x")


def test_a_folder_without_events_is_no_run(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no run here"):
        locate(tmp_path)


def test_the_first_event_of_a_cause_is_full_and_only_ten_hold_a_program() -> None:
    recorder = DivergenceRecorder()
    events = [recorder.event(synthetic_divergence(seed=seed), "new", seed) for seed in range(FULL_PROGRAMS + 3)]
    assert ["key" in event for event in events] == [True] + [False] * (FULL_PROGRAMS + 2)
    assert ["divergence" in event for event in events] == [True] * FULL_PROGRAMS + [False] * 3
    assert [event["seed"] for event in events] == list(range(FULL_PROGRAMS + 3))


def test_causes_are_counted_apart() -> None:
    recorder = DivergenceRecorder()
    assert all("key" in recorder.event(synthetic_divergence(op), "new", 0.0) for op in ("exp", "log", "sin"))


def shard(first: str, elapsed: float, **start: Any) -> list[Any]:
    recorder = DivergenceRecorder()
    found = recorder.event(synthetic_divergence(seed=int(elapsed)), "new", elapsed)
    return [synthetic_start(ops=[first], **start), synthetic_batch(elapsed=elapsed), found, synthetic_end(elapsed=elapsed + 1)]


def test_shards_merge_into_one_run_in_the_order_of_time() -> None:
    whole = merge([shard("exp", 5.0), shard("log", 3.0)])
    assert [event["type"] for event in whole] == ["start", "batch", "divergence", "batch", "divergence", "end"]
    assert whole[0]["ops"] == ["exp", "log"] and whole[0]["planned"] == {"programs": 200.0}
    assert [event["seed"] for event in whole if event["type"] == "divergence"] == [3, 5]
    assert whole[-1]["elapsed"] == 6.0


def test_a_file_of_a_worker_without_start_and_end_merges_into_its_run() -> None:
    whole = merge([shard("exp", 5.0), [synthetic_batch(source="suite", elapsed=1.0)]])
    assert [event["type"] for event in whole] == ["start", "batch", "batch", "divergence", "end"]


def test_the_seconds_of_shards_run_side_by_side() -> None:
    whole = merge([shard("exp", 5.0, planned={"seconds": 60}), shard("log", 3.0, planned={"seconds": 50})])
    assert whole[0]["planned"] == {"seconds": 60.0}


def test_a_killed_shard_leaves_the_merged_run_without_an_end() -> None:
    assert merge([shard("exp", 5.0), shard("log", 3.0)[:-1]])[-1]["type"] != "end"


def test_a_shard_that_broke_breaks_the_merged_run() -> None:
    broken = [*shard("log", 3.0)[:-1], synthetic_end(broken=True, reason="no memory")]
    assert (end := merge([shard("exp", 5.0), broken])[-1])["broken"] and end["reason"] == "no memory"


@pytest.mark.parametrize("answers", [("known", "stale"), ("stale", "known")])
def test_an_entry_that_diverged_in_any_shard_is_not_stale(answers: tuple[str, str]) -> None:
    whole = merge([[*shard("exp", 5.0), {"type": "known", "entry": "e", "status": status}] for status in answers])
    assert [event["status"] for event in whole if event["type"] == "known"] == ["known"]


def test_runs_of_different_torches_do_not_merge() -> None:
    with pytest.raises(RunError, match=r"different torch \(2\.12\.0, 2\.13\.0"):
        merge([shard("exp", 5.0), shard("log", 3.0, torch="2.12.0")])
