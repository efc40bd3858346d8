"""A real SLURM of one node on this machine, for tests: its daemons run as whoever starts it, in a folder of their own.

It needs Debian's packages slurm-wlm and munge. The node claims more processors, memory and GPUs than the machine has,
so that the profile's requests fit: SLURM then schedules as it would on a cluster, and only the limits on processors
and memory are not enforced (that takes control groups, which sandboxes often lack).
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
DEVICES = ("/dev/null", "/dev/zero")
PARTITION = "gpu"
ANSWER_SECONDS = 30.0

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
SlurmdTimeout=10
MinJobAge=300
KillWait=20
InactiveLimit=0
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
NodeName={host} NodeAddr=127.0.0.1 CPUs=8 RealMemory=200000 Gres=gpu:{gpus}
PartitionName={partition} Nodes={host} Default=YES MaxTime=INFINITE State=UP OverTimeLimit=0
"""


def missing_programs() -> list[str]:
    """The programs of SLURM and munge that this machine lacks."""
    return [program for program in PROGRAMS if not _program(program)]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class OneNodeSlurm:
    """The daemons, and questions to them.

    Args:
        folder: for sockets, keys, states and logs; its path must be short (a socket's may have 107 characters) and
            free of spaces.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.host = socket.gethostname().partition(".")[0]
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        }

    def __enter__(self) -> "OneNodeSlurm":
        for name in ("state", "spool", "bin"):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)  # munged refuses a socket's folder that others cannot enter
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        controller_port, node_port = _free_ports(2)
        (self.folder / "slurm.conf").write_text(
            CONFIGURATION.format(
                folder=self.folder,
                host=self.host,
                user=getpass.getuser(),
                controller_port=controller_port,
                node_port=node_port,
                gpus=len(DEVICES),
                partition=PARTITION,
            )
        )
        # Devices that every machine has stand for GPUs: SLURM numbers them and tells each job which are its own.
        (self.folder / "gres.conf").write_text("".join(f"Name=gpu File={device}\n" for device in DEVICES))
        # Snakemake's plugin starts srun without the variables of SLURM: this tells it the configuration again.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF="{self.folder}/slurm.conf" exec "{shutil.which("srun")}" "$@"\n')
        srun.chmod(0o755)
        try:
            self._start(
                "munged",
                *("--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket"),
                *(f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log"),
                f"--seed-file={self.folder}/munged.seed",
            )
            self._wait(lambda: (self.folder / "munge.socket").exists(), "munged made no socket")
            self._start("slurmctld", "-D", "-c")
            self._wait(lambda: self._answers("scontrol", "ping"), "slurmctld does not answer")
            self.start_node()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "slurmctld" in self.daemons and self._answers("scontrol", "ping"):
            subprocess.run(["scancel", "--state=RUNNING"], env=os.environ | self.environment, capture_output=True)
            subprocess.run(["scancel", "--state=PENDING"], env=os.environ | self.environment, capture_output=True)
            deadline = time.monotonic() + ANSWER_SECONDS
            while self.queue() and time.monotonic() < deadline:
                time.sleep(0.2)
        for name in ("slurmd", "slurmctld", "munged"):
            if name in self.daemons:
                self._end(name, signal.SIGTERM)

    def start_node(self) -> None:
        """Start slurmd and wait until its node takes jobs."""
        self._start("slurmd", "-D", "-N", self.host)
        self._wait(lambda: self.ask("sinfo", "-h", "-o", "%T") in ("idle", "mixed"), "the node does not get ready")

    def kill_node(self) -> None:
        """Kill slurmd with signal 9, as a crash would."""
        self._end("slurmd", signal.SIGKILL)

    def ask(self, *words: str) -> str:
        """What a command of SLURM answers; raises CalledProcessError where it fails."""
        outcome = subprocess.run(
            words, env=os.environ | self.environment, check=True, capture_output=True, text=True, timeout=60
        )
        return outcome.stdout.strip()

    def queue(self, *states: str) -> list[dict[str, str]]:
        """The jobs in the queue, or those in the states: number, comment (rule and wildcards), state, node."""
        words = ["squeue", "--noheader", "--format=%i|%k|%T|%N|%r"]
        if states:
            words.append(f"--states={','.join(states)}")
        names = ("number", "comment", "state", "node", "reason")
        return [dict(zip(names, line.split("|"), strict=True)) for line in self.ask(*words).splitlines()]

    def job(self, number: str) -> dict[str, str]:
        """What `scontrol show job` tells of a job."""
        told: dict[str, str] = {}
        for line in self.ask("scontrol", "--details", "show", "job", number).splitlines():
            name, _, value = line.strip().partition("=")
            if name in ("WorkDir", "StdOut", "Command"):  # paths, with their spaces
                told[name] = value
            else:
                told |= dict(word.split("=", 1) for word in line.split() if "=" in word)
        return told

    def _start(self, name: str, *words: str) -> None:
        program = _program(name)
        assert program is not None, name
        with (self.folder / f"{name}.output").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                [program, *words],
                env=os.environ | self.environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )

    def _end(self, name: str, number: int) -> None:
        process = self.daemons.pop(name)
        process.send_signal(number)
        try:
            process.wait(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _answers(self, *words: str) -> bool:
        try:
            return "DOWN" not in self.ask(*words)
        except subprocess.CalledProcessError:
            return False

    def _wait(self, ready, complaint: str) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while not ready():
            ended = [name for name, process in self.daemons.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(self._tail(name) for name in self.daemons)
                raise RuntimeError(f"{complaint} (ended: {', '.join(ended) or 'none'})\n{logs}")
            time.sleep(0.1)

    def _tail(self, name: str) -> str:
        files = [self.folder / f"{name}.output", self.folder / f"{name}.log"]
        return "\n".join(file.read_text(errors="replace")[-1500:] for file in files if file.exists())
