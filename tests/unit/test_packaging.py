"""What a stranger meets first: ./run, the locks, docker-compose.yml."""

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from app.settings import Settings

ROOT = Path(__file__).parents[2]
BASH = shutil.which("bash") or "bash"
LOCKS = ["requirements.lock", "requirements-dev.lock"]


# --- the locks ---


@pytest.mark.parametrize("lock", LOCKS)
def test_every_locked_package_has_one_version_and_a_hash(lock: str) -> None:
    for requirement in requirements(lock):
        assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==\S+", requirement), requirement
        assert "--hash=sha256:" in requirement, requirement


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_names_no_place_to_download_from(lock: str) -> None:
    assert not re.search(r"://|^\s*-[-a-z]+", "\n".join(without_hashes(lock)), re.MULTILINE)


@pytest.mark.parametrize("lock", LOCKS)
def test_a_lock_brings_neither_cuda_nor_a_torch_of_its_own(lock: str) -> None:
    unwanted = re.compile(r"torch$|triton|nvidia|cuda|cudnn|cublas")
    assert [name for name in versions(lock) if unwanted.match(name)] == []


def test_the_developers_lock_holds_all_that_the_server_runs_with() -> None:
    assert versions("requirements.lock").items() <= versions("requirements-dev.lock").items()


def requirements(lock: str) -> list[str]:
    text = re.sub(r"^\s*#.*\n", "", (ROOT / lock).read_text(), flags=re.MULTILINE)
    return text.replace("\\\n", " ").splitlines()


def without_hashes(lock: str) -> list[str]:
    return [re.sub(r"\s*--hash=\S+", "", requirement) for requirement in requirements(lock)]


def versions(lock: str) -> dict[str, str]:
    """Name to version; with its marker, where a package is locked more than once."""
    pins = (line.split("==", 1) for line in without_hashes(lock))
    return {name.split("[")[0] + version.partition(" ")[2]: version for name, version in pins}


# --- docker-compose.yml ---


def test_docker_compose_yml_follows_the_compose_specification() -> None:
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run(
        [*check, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_compose_hands_on_only_settings_that_the_server_reads() -> None:
    handed_on = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["x-settings"]
    assert set(handed_on) <= {f"TWOFOLD_{name.upper()}" for name in Settings.model_fields}


# --- ./run, as it is ---


def test_run_shows_its_commands_from_any_folder(tmp_path: Path) -> None:
    done = subprocess.run([ROOT / "run"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0
    for command in ("demo", "serve", "twofold", "python", "test", "lint", "setup"):
        assert f"\n  {command} " in done.stdout


@pytest.mark.parametrize("arguments", [["dmeo"], ["setup", "--everything"], ["lint", "app"]])
def test_run_refuses_what_it_does_not_know(arguments: list[str]) -> None:
    done = subprocess.run([ROOT / "run", *arguments], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "./run help" in done.stderr


# --- ./run in a project of its own, with a Python that only notes what it is asked for ---


@dataclass(frozen=True)
class Project:
    folder: Path
    pythons: Path

    def add_python(self, name: str, script: str) -> None:
        path = self.pythons / name
        path.write_text(f"#!{BASH}\n{script}\n")
        path.chmod(0o755)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [BASH, self.folder / "run", *arguments],
            env={"PATH": str(self.pythons), **environment},
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
        )

    def installed(self) -> list[str]:
        """What the noting Python was asked to install since the last call."""
        notes = self.folder / "notes"
        lines = notes.read_text().splitlines() if notes.exists() else []
        notes.unlink(missing_ok=True)
        return lines


@pytest.fixture
def project(tmp_path: Path) -> Project:
    made = Project(folder=tmp_path / "a clone", pythons=tmp_path / "bin")
    made.folder.mkdir()
    made.pythons.mkdir()
    for name in ("run", *LOCKS):
        shutil.copy(ROOT / name, made.folder)
    for tool in ("cat", "cp", "dirname", "mkdir", "rm", "touch", "tr"):
        (made.pythons / tool).symlink_to(str(shutil.which(tool)))
    return made


NOTING_PYTHON = f"""
note() {{ echo "$*" >> notes; [[ "$*" != *"${{FAIL_AT:-nothing}}"* ]]; }}
case "$*" in
    "-m venv .venv") note venv && mkdir -p .venv/bin && cp "$0" .venv/bin/python ;;
    "-m uv --version") [[ -e .venv/uv ]] && cat .venv/uv ;;
    "-m pip install"*) note pip && echo "${{*: -1}}" | tr -s = " " > .venv/uv ;;
    "-m pip config get"*) exit 1 ;;
    "-m uv pip install"*torch-backend=cpu*) note torch && touch .venv/torch ;;
    "-m uv pip install"*"--require-hashes"*) note "locked ${{*: -2:1}}" ;;
    "-I - 2."*) [[ -e .venv/torch ]] ;;
    "-m app.cli"*) echo "started with ${{*:3}}" ;;
    *) exec "{sys.executable}" "$@" ;;
esac
"""


def test_only_the_first_start_installs(project: Project) -> None:
    project.add_python("python3.11", NOTING_PYTHON)
    first = project.run("serve", "--port", "9")
    assert first.stdout == "started with serve --port 9\n", first.stderr
    assert project.installed() == ["venv", "pip", "torch", "locked requirements.lock"]

    again = project.run("serve")
    assert (again.stdout, again.stderr) == ("started with serve\n", "")
    assert project.installed() == []


def test_tools_for_developers_are_added_when_they_are_asked_for(project: Project) -> None:
    project.add_python("python3.11", NOTING_PYTHON)
    project.run("setup")
    project.installed()
    project.run("setup", "--dev")
    assert project.installed() == ["locked requirements-dev.lock"]
    project.run("setup")
    project.run("setup", "--dev")
    assert project.installed() == []


def test_a_changed_lock_is_installed_at_the_next_start(project: Project) -> None:
    project.add_python("python3.11", NOTING_PYTHON)
    project.run("setup")
    project.installed()
    with (project.folder / "requirements.lock").open("a") as lock:
        lock.write("# changed\n")
    project.run("setup")
    assert project.installed() == ["locked requirements.lock"]


@pytest.mark.parametrize("step", ["venv", "pip", "torch", "locked"])
def test_a_setup_that_failed_half_way_heals_itself(project: Project, step: str) -> None:
    project.add_python("python3.11", NOTING_PYTHON)
    failed = project.run("serve", FAIL_AT=step)
    assert failed.returncode == 1
    assert failed.stdout == ""
    project.installed()

    healed = project.run("serve")
    assert healed.stdout == "started with serve\n", healed.stderr
    assert project.installed() == ["venv", "pip", "torch", "locked requirements.lock"]


def test_an_old_python_alone_is_refused_with_the_remedy(project: Project) -> None:
    project.add_python("python3", "echo 3.9")
    done = project.run("demo")
    assert done.returncode == 1
    assert "Python 3.11 to " in done.stderr
    assert "python3 is 3.9" in done.stderr
    assert "apt-get install" in done.stderr
    assert not (project.folder / ".venv").exists()


def test_a_python_without_venv_is_refused_with_the_package_to_install(project: Project) -> None:
    project.add_python("python3.12", '[[ "$*" == *version_info* ]] && echo 3.12')
    done = project.run("demo")
    assert done.returncode == 1
    assert "python3.12-venv" in done.stderr


def test_a_python_that_is_only_a_name_on_the_path_is_passed_over(project: Project) -> None:
    project.add_python("python3.11", "echo 'not installed' >&2; exit 127")
    project.add_python("python3", NOTING_PYTHON)
    assert project.run("serve").stdout == "started with serve\n"


def test_the_python_that_somebody_names_is_the_one_that_is_taken(project: Project) -> None:
    project.add_python("python3.11", NOTING_PYTHON)
    project.add_python("mine", "echo 3.10")
    done = project.run("setup", PYTHON="mine")
    assert "mine is 3.10" in done.stderr
    assert done.returncode == 1


@pytest.mark.skipif(shutil.which("make") is None, reason="make is not installed")
def test_make_alone_shows_what_can_be_made(tmp_path: Path) -> None:
    done = subprocess.run(
        ["make", "-C", ROOT, "--no-print-directory"],
        capture_output=True,
        text=True,
        check=True,
        env={"PATH": os.environ["PATH"]},
    )
    assert "make demo " in done.stdout
    assert "make test " in done.stdout
