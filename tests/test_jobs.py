"""Jobs are real processes of the real command line."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time

import psutil
import pytest

from jepascore_core import jobs, processes, store
from jepascore_core.errors import RunError
from jepascore_core.files import write_json
from jepascore_core.jobs import children
from jepascore_core.locks import Cancelled, device_lock, hold
from jepascore_core.store.request import RunRequest

GALAXIES = RunRequest("demo:jepa-tiny", "demo:galaxies", limit=6, device="cpu")


@pytest.fixture
def home(tmp_path):
    """A runs folder; whatever is still at work in the end is killed."""
    home = tmp_path / "ru'ns *"
    yield home
    for child in list(children.children):
        if str(home) in " ".join(child.args):
            child.kill()
            child.wait()


def now(job, home):
    return next(other for other in jobs.list_jobs(home) if other.id == job.id)


def wait_until(job, home, condition, seconds=90.0):
    """The job once a condition holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition(found := now(job, home)):
            return found
        time.sleep(0.02)
    raise AssertionError(f"{now(job, home)} after {seconds} s")


def fake(home, **changes):
    """A job's file without a process of ours behind it."""
    path = jobs._folder(store.runs_home(home)) / f"{time.time_ns()}.json"
    job = jobs.Job(path, "score", ["x"], started="2026-01-01T00:00:00+00:00", host=processes.HOST)
    job = dataclasses.replace(job, **changes)
    write_json(path, {name: value for name, value in dataclasses.asdict(job).items() if name != "path"})
    return job


@pytest.mark.slow
def test_a_job_waits_is_cancelled_is_resumed_and_is_done(home):
    with hold(device_lock("cpu"), holder="a test", waiting=lambda words: None):
        job = jobs.start(GALAXIES, runs_dir=home)
        assert job.active and job.pid != os.getpid() and os.getsid(job.pid) == job.pid
        assert "--dataset=demo:galaxies" in job.argv and RunRequest.from_json(job.request) == GALAXIES
        waiting = wait_until(job, home, lambda job: job.state == "waiting")
        (run,) = store.list_runs(home)
        assert waiting.runs == [run.name] and run.progress().state == "waiting"
        with pytest.raises(RunError, match="still at work"):
            jobs.dismiss(waiting)
        jobs.cancel(waiting)
        cancelled = wait_until(job, home, lambda job: not job.active)
    assert (cancelled.state, cancelled.message) == ("cancelled", "") and run.progress().state == "cancelled"
    jobs.cancel(cancelled)  # nothing left to do, and nothing raised
    jobs.dismiss(cancelled)

    again = jobs.start(run.request(), runs_dir=home)
    done = wait_until(again, home, lambda job: not job.active)
    assert (done.state, done.message, done.runs) == ("done", "", [run.name])
    assert store.counts(run)["done"] == 6 and run.progress().state == "done"
    end = time.monotonic() + 20
    while psutil.pid_exists(again.pid) and time.monotonic() < end:
        jobs.list_jobs(home)
        time.sleep(0.05)
    assert not psutil.pid_exists(again.pid)  # reaped: no zombie is left
    jobs.dismiss(done)
    assert jobs.list_jobs(home) == [] and store.list_runs(home) == [run]
    assert [path.name for path in (home / ".jobs").iterdir() if not path.name.startswith(".")] == []


@pytest.mark.slow
def test_a_job_cancelled_before_it_can_speak_is_cancelled(home):
    job = jobs.start(GALAXIES, runs_dir=home)
    jobs.cancel(job)  # Python is still starting: the signal ends it at once
    assert wait_until(job, home, lambda job: not job.active).state == "cancelled"


@pytest.mark.slow
def test_a_job_that_cannot_work_says_why(home):
    job = jobs.start(dataclasses.replace(GALAXIES, device="abacus"), runs_dir=home)
    failed = wait_until(job, home, lambda job: not job.active)
    assert failed.state == "failed" and "abacus" in failed.message and failed.runs == []


@pytest.mark.slow
def test_two_browsers_start_one_demo(home):
    found = []
    threads = [threading.Thread(target=lambda: found.append(jobs.start_demo(runs_dir=home))) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len({job.id for job in found}) == 1 and len(jobs.list_jobs(home)) == 1
    assert found[0].kind == "demo" and found[0].request is None
    jobs.cancel(found[0])
    wait_until(found[0], home, lambda job: not job.active)
    assert jobs.start_demo(runs_dir=home).id != found[0].id  # a cancelled demo can be started again


def test_the_demo_is_its_sets_and_a_control():
    requests = jobs.demo_requests(device="cpu")
    assert [request.dataset_id for request in requests[:3]] == ["demo:photos", "demo:digits", "demo:galaxies"]
    assert {request.encoder_id for request in requests} == {"demo:jepa-tiny", "demo:jepa-tiny-untrained"}


def test_a_process_that_died_without_a_word(home):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    life = processes.identity(child.pid)
    job = fake(home, pid=child.pid, process=life, state="loading encoder")
    job.path.with_suffix(".log").write_text("Traceback\n\r 10%\r 20%\nMemoryError: no room\n\n")
    assert now(job, home).state == "loading encoder"
    child.kill()
    while child.poll() is None and psutil.Process(child.pid).status() != psutil.STATUS_ZOMBIE:
        time.sleep(0.01)
    dead = now(job, home)  # a zombie at first
    assert (dead.state, dead.message) == ("failed", "MemoryError: no room")
    child.wait()
    (home / "a-run").mkdir()
    write_json(home / "a-run" / "progress.json", {"state": "running", "process": life, "pid": child.pid})
    dead = now(job, home)
    assert (dead.state, dead.runs) == ("interrupted", ["a-run"])
    jobs.dismiss(dead)
    assert jobs.list_jobs(home) == []


def test_a_job_whose_starter_died_too(home):
    job = fake(home)
    assert now(job, home).state == "starting"
    os.utime(job.path, (0, 0))
    assert now(job, home).state == "failed"
    jobs.cancel(job)


def test_a_reused_process_id_is_not_mistaken(home):
    job = fake(home, pid=os.getpid(), process="another boot:7", state="scoring")
    assert now(job, home).state == "failed"
    jobs.cancel(job)  # must not signal us


def test_another_machines_job_is_listed_and_left_alone(home):
    job = fake(home, pid=1, host="elsewhere", state="scoring")
    assert now(job, home).state == "scoring"
    with pytest.raises(RunError, match="elsewhere"):
        jobs.cancel(job)


@pytest.mark.parametrize("garbage", ["", "{", "[]", '{"kind": 3}', '{"kind": "score", "argv": [], "state": "eating"}'])
def test_damaged_job_files_are_passed_over(home, garbage):
    job = fake(home, state="done")
    job.path.with_name("bad.json").write_text(garbage)
    job.path.with_name("bad.pid").write_text(garbage)
    assert [other.id for other in jobs.list_jobs(home)] == [job.id]


def test_job_file_tells_stages_and_ends(home):
    path = fake(home).path
    with jobs.JobFile.attached(path) as job:
        assert json.loads(path.read_text())["pid"] == os.getpid()
        job.stage("scoring")
        assert now(fake(home, path=path, state="scoring", pid=os.getpid()), home).active
    assert json.loads(path.read_text())["state"] == "done"
    with pytest.raises(RunError), jobs.JobFile.attached(path):
        raise RunError("No such thing.")
    assert json.loads(path.read_text())["message"] == "No such thing."
    with pytest.raises(Cancelled), jobs.JobFile.attached(path):
        raise Cancelled("Cancelled.")
    assert json.loads(path.read_text())["state"] == "cancelled"
    with pytest.raises(RunError), jobs.JobFile.attached(path) as job:
        job.stage("cancelled")
        raise RunError("Cancelled; the rest can be resumed.")
    assert json.loads(path.read_text()) | {"state": "cancelled", "message": ""} == json.loads(path.read_text())


def test_a_typed_command_is_no_job():
    with jobs.JobFile.attached(None) as job:
        job.stage("scoring")


def test_impossible_requests_start_nothing(home):
    with pytest.raises(RunError, match="views must be at least 1"):
        jobs.start(dataclasses.replace(GALAXIES, views=0), runs_dir=home)
    assert jobs.list_jobs(home) == []


def test_arguments_reach_the_command_line_unharmed():
    from typer.testing import CliRunner

    from jepascore_core.__main__ import app
    from jepascore_core.commands import scoring

    request = RunRequest(
        "file:-odd name.safetensors", "folder:/a b/'c\"", per_class=2, limit=3, seed=7, classes=("tench, Tinca", "-x"),
        device="cpu", views=2, pretrained=False, input_size=64, precision="float64", batch_size=5,
    )  # fmt: skip
    seen = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(scoring, "score_all", lambda requests, runs_dir, job: seen.extend(requests))
        result = CliRunner().invoke(app, ["score", *request.to_argv()])
    assert result.exit_code == 0, result.output
    assert seen == [request]


def test_signal_numbers_are_sent_to_live_children_only(home):
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    jobs.cancel(fake(home, pid=child.pid, process=processes.identity(child.pid), state="scoring"))
    assert child.wait(10) == -signal.SIGTERM
