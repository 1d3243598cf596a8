"""Jobs as real processes: tiny Python programs that wait for files of the test instead of sleeping."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chipdemo.errors import JobError
from chipdemo.jobs import DONE, FAILED, INTERRUPTED, RUNNING, STOPPED, Job, Jobs, read_job
from tests.waiting import until

WAITING = """
import pathlib, time
print("working", flush=True)
while not pathlib.Path({!r}).exists(): time.sleep(0.01)
"""


def program(text: str) -> list[str]:
    return [sys.executable, "-c", text]


@pytest.fixture
def go(tmp_path) -> Path:
    """What a waiting step waits for."""
    return tmp_path / "go"


@pytest.fixture
def waiting(go) -> list[str]:
    return program(WAITING.format(str(go)))


@pytest.fixture
def jobs(tmp_path) -> Iterator[Jobs]:
    jobs = Jobs(tmp_path / "labels.db.jobs")
    yield jobs
    jobs.close()


def ended(jobs: Jobs) -> Job:
    return until(lambda: (job := jobs.last()).status != RUNNING and job)


def at_work(jobs: Jobs) -> Job:
    return until(lambda: (job := jobs.last()).tail().endswith("working\n") and job)


def test_the_steps_run_one_after_the_other_and_the_log_has_what_they_print(jobs):
    assert jobs.last() is None
    jobs.start(lambda folder: [program("print('one')"), program("print('two é')")], {"model": "chips"})
    job = ended(jobs)
    assert (job.status, job.step, job.about) == (DONE, 1, {"model": "chips"})
    lines = job.tail().splitlines()
    assert [line for line in lines if not line.startswith("$ ")] == ["one", "two é"] and len(lines) == 4
    assert job.started_at <= job.ended_at and Jobs(jobs.folder).last() == job
    with pytest.raises(JobError, match="no job to resume"):
        jobs.resume()


def test_a_step_that_fails_is_the_last_and_the_job_goes_on_with_it_when_resumed(jobs, tmp_path):
    made = tmp_path / "made"
    first = program(f"open({str(made)!r}, 'x')")  # would fail the second time
    second = program(
        "import sys; print(sys.argv[1:]); sys.exit(sys.argv[1:] != ['--resume'] and 'error: no')"
    )
    jobs.start(lambda folder: [first, second])
    job = ended(jobs)
    assert (job.status, job.step) == (FAILED, 1) and job.tail().endswith("error: no\n")
    jobs.resume(["--resume"])
    job = ended(jobs)
    assert job.status == DONE and job.tail().endswith("['--resume']\n")


def test_one_job_at_a_time_also_of_another_app(jobs, waiting, go):
    jobs.start(lambda folder: [waiting])
    at_work(jobs)
    other = Jobs(jobs.folder)
    assert other.last().status == RUNNING
    for one in (jobs, other):
        with pytest.raises(JobError, match="A job is running"):
            one.start(lambda folder: [waiting])
        with pytest.raises(JobError, match="A job is running"):
            one.resume()
    with pytest.raises(JobError, match="another app"):
        other.stop()
    go.touch()
    assert ended(jobs).status == DONE
    assert len(list(jobs.folder.glob("*/job.json"))) == 1


def test_a_stopped_job_can_be_resumed_and_a_new_one_takes_its_place(jobs, waiting, go):
    stopped = jobs.start(lambda folder: [waiting])
    at_work(jobs)
    jobs.stop()
    assert jobs.last().status == STOPPED
    jobs.resume()
    assert at_work(jobs).folder == stopped.folder
    jobs.stop()
    go.touch()
    jobs.start(lambda folder: [waiting])
    assert ended(jobs).status == DONE and not stopped.folder.exists()


def test_the_end_of_the_app_interrupts_its_job(jobs, waiting, go):
    jobs.start(lambda folder: [waiting])
    at_work(jobs)
    jobs.close()
    assert Jobs(jobs.folder).last().status == INTERRUPTED
    go.touch()
    after_a_restart = Jobs(jobs.folder)
    after_a_restart.resume()
    assert ended(after_a_restart).status == DONE


def test_an_app_that_is_killed_leaves_no_job_at_work(jobs, waiting, tmp_path):
    jobs_of_app = f"from chipdemo.jobs import Jobs; Jobs(Path({str(jobs.folder)!r}))"
    app = subprocess.Popen(
        program(f"from pathlib import Path; {jobs_of_app}.start(lambda folder: [{waiting!r}]); input()"),
        stdin=subprocess.PIPE,
    )
    until(lambda: jobs.last() and jobs.last().tail().endswith("working\n"))
    assert jobs.last().status == RUNNING
    app.kill()
    app.wait()
    app.stdin.close()
    job = ended(jobs)
    assert job.status == INTERRUPTED
    assert until(lambda: read_job(job.folder).ended_at)  # by the process of the job, not by chance


def test_a_step_that_cannot_be_started_and_a_state_that_cannot_be_read_are_told(jobs):
    jobs.start(lambda folder: [["/no/such/program"]])
    job = ended(jobs)
    assert job.status == FAILED and "/no/such/program" in job.tail().splitlines()[-1]
    (job.folder / "job.json").write_text(json.dumps({"status": "done"}))
    with pytest.raises(JobError, match="Remove"):
        jobs.last()


def test_of_a_long_log_the_last_whole_lines_are_shown(jobs):
    jobs.start(lambda folder: [program("for number in range(5000): print('line', number)")])
    lines = ended(jobs).tail().splitlines()
    assert lines[-1] == "line 4999" and lines[0].startswith("line ") and 500 < len(lines) < 3000
