"""A real SLURM cluster on this machine: two nodes, two partitions, GPUs of a type, accounts and QOS in MariaDB.

The tests start it. It is also a program that keeps a cluster until Ctrl-C, to try `snakemake --profile slurm`:

    python tests/slurm_cluster.py

The daemons run as the user who starts them, with all files in one folder. They need Debian's packages slurm-wlm,
slurmdbd, mariadb-server and munge. The nodes claim more processors, memory and GPUs than the machine has, so that the
profile's requests fit: SLURM then schedules as it would on a cluster. A job that uses more memory than it asked for is
killed.
"""

import argparse
import contextlib
import getpass
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "squeue", "scontrol", "scancel")
ACCOUNTING_PROGRAMS = ("mariadb-install-db", "mariadbd", "slurmdbd", "sacctmgr", "sacct")
DEVICES = ("/dev/null", "/dev/zero")  # every machine has them; SLURM numbers them and gives them to jobs as GPUs
GPU_TYPE = "a100"
ANSWER_SECONDS = 60.0
ACCOUNT = "research"
GRACE_SECONDS = 20

CONFIGURATION = """\
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/{limits_memory}
SelectType=select/cons_tres
SelectTypeParameters=CR_Core_Memory
SlurmdParameters=config_overrides
GresTypes=gpu
SlurmdTimeout=10
EnforcePartLimits=ALL
MinJobAge=300
MaxArraySize=1001
KillWait=20
InactiveLimit=0
ReturnToService=2
SchedulerParameters=sched_interval=1,batch_sched_delay=0
"""

WITHOUT_ACCOUNTS = """\
AccountingStorageType=accounting_storage/none
JobAcctGatherType=jobacct_gather/none
"""

WITH_ACCOUNTS = """\
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={database_port}
AccountingStoragePass={folder}/munge.socket
AccountingStorageEnforce=associations,limits,qos
AccountingStorageTRES=gres/gpu
JobAcctGatherType=jobacct_gather/linux
JobAcctGatherFrequency=task=2
PreemptType=preempt/qos
PreemptMode=REQUEUE
"""

# Where control groups cannot be used, slurmd looks every two seconds whether a job has more memory than it asked for.
BY_POLLING = "JobAcctGatherParams=OverMemoryKill\n"

CONTROL_GROUPS = """\
CgroupPlugin=cgroup/v1
CgroupMountpoint={mountpoint}
ConstrainRAMSpace=yes
"""
MOUNTPOINT = Path("/sys/fs/cgroup")

DATABASE = """\
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
DbdHost=localhost
DbdAddr=127.0.0.1
DbdPort={database_port}
SlurmUser={user}
PidFile={folder}/slurmdbd.pid
LogFile={folder}/slurmdbd.log
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=slurm
StorageLoc=slurm
"""


def has_control_groups() -> bool:
    """Whether slurmd can limit memory with control groups: of version 1, as version 2 takes systemd."""
    return os.geteuid() == 0 and os.access(MOUNTPOINT / "memory" / "cgroup.procs", os.W_OK)


def missing_programs(accounts: bool = False) -> list[str]:
    """The programs of SLURM, munge and, for accounts, MariaDB that this machine lacks."""
    return [program for program in (*PROGRAMS, *(ACCOUNTING_PROGRAMS if accounts else ())) if not _program(program)]


def _program(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _parent(process: int) -> int:
    with contextlib.suppress(OSError):
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def _name(process: int) -> str:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{process}/comm").read_text().strip()
    return ""


def _free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    try:
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]
    finally:
        for each in sockets:
            each.close()


class SlurmCluster:
    """The daemons, and questions to them.

    Args:
        folder: for sockets, keys, states and logs; its path must be short (a socket's may have 107 characters) and
            free of spaces.
        nodes: names of the nodes. Each has two GPUs; all are in the partition `gpu`. If there are several, the last one
            is the partition `cpu`, too.
        accounts: keep accounts, so that a job needs one and limits are enforced.
        starts: of some nodes, the start of the command that starts slurmd, such as `unshare --mount`.
    """

    def __init__(
        self,
        folder: Path,
        nodes: Sequence[str] = ("node1",),
        accounts: bool = False,
        starts: Mapping[str, Sequence[str]] | None = None,
    ) -> None:
        self.folder = folder
        self.nodes = tuple(nodes)
        self.accounts = accounts
        self.starts = dict(starts or {})
        self.user = getpass.getuser()
        self.daemons: dict[str, subprocess.Popen[bytes]] = {}
        self.environment = {
            "SLURM_CONF": str(folder / "slurm.conf"),
            "PATH": os.pathsep.join([str(folder / "bin"), os.environ["PATH"]]),
        }

    def __enter__(self) -> "SlurmCluster":
        for name in ("state", "bin", *(f"spool-{node}" for node in self.nodes)):
            (self.folder / name).mkdir(parents=True)
        self.folder.chmod(0o755)  # munged refuses a socket's folder that others cannot enter
        key = self.folder / "munge.key"
        key.write_bytes(os.urandom(128))
        key.chmod(0o400)
        self._configure()
        # Snakemake's plugin starts srun without the variables of SLURM: this tells it the configuration again.
        srun = self.folder / "bin" / "srun"
        srun.write_text(f'#!/bin/sh\nSLURM_CONF="{self.folder}/slurm.conf" exec "{shutil.which("srun")}" "$@"\n')
        srun.chmod(0o755)
        try:
            self._start(
                "munged",
                *("munged", "--foreground", "--force", f"--key-file={key}", f"--socket={self.folder}/munge.socket"),
                *(f"--pid-file={self.folder}/munged.pid", f"--log-file={self.folder}/munged.log"),
                f"--seed-file={self.folder}/munged.seed",
            )
            self._wait(lambda: (self.folder / "munge.socket").exists(), "munged made no socket")
            if self.accounts:
                self._start_mariadb()
                self.start_database()
                self.sacctmgr("add", "cluster", "tests")
            self.start_controller()
            if self.accounts:
                self._add_accounts()
            for node in self.nodes:
                self.start_node(node)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        if "slurmctld" in self.daemons and self._answers("scontrol", "ping"):
            self.cancel_everything()
        for name in reversed(list(self.daemons)):
            self._end(name, signal.SIGTERM)

    def _configure(self) -> None:
        controller_port, database_port, *node_ports = _free_ports(2 + len(self.nodes))
        values: dict[str, object] = {
            "folder": self.folder,
            "host": socket.gethostname().partition(".")[0],
            "user": self.user,
            "controller_port": controller_port,
            "database_port": database_port,
        }
        grouped = self.accounts and has_control_groups()
        values["limits_memory"] = "cgroup" if grouped else "none"
        text = (CONFIGURATION + (WITH_ACCOUNTS if self.accounts else WITHOUT_ACCOUNTS)).format(**values)
        if grouped:
            (self.folder / "cgroup.conf").write_text(CONTROL_GROUPS.format(mountpoint=MOUNTPOINT))
        elif self.accounts:
            text += BY_POLLING
        for node, port in zip(self.nodes, node_ports, strict=True):
            text += (
                f"NodeName={node} NodeHostname={values['host']} NodeAddr=127.0.0.1 Port={port} CPUs=8"
                f" RealMemory=200000 Gres=gpu:{GPU_TYPE}:{len(DEVICES)}\n"
            )
        partition = "State=UP OverTimeLimit=0 MaxTime=INFINITE"
        if self.accounts:
            partition += f" AllowAccounts={ACCOUNT}"
        if len(self.nodes) > 1:
            text += f"PartitionName=cpu Nodes={self.nodes[-1]} {partition}\n"
        text += f"PartitionName=gpu Nodes={','.join(self.nodes)} Default=YES {partition}\n"
        (self.folder / "slurm.conf").write_text(text)
        (self.folder / "gres.conf").write_text(
            "".join(f"Name=gpu Type={GPU_TYPE} File={device}\n" for device in DEVICES)
        )
        database = self.folder / "slurmdbd.conf"
        database.write_text(DATABASE.format(**values))
        database.chmod(0o600)  # slurmdbd requires it

    # Accounts

    def _start_mariadb(self) -> None:
        data, found = self.folder / "mariadb", _program("mariadb-install-db")
        assert found is not None
        settings = ["--no-defaults", f"--datadir={data}", *(["--user=root"] if os.geteuid() == 0 else [])]
        settings += ["--innodb-log-file-size=8M", "--innodb-flush-log-at-trx-commit=0"]
        subprocess.run(
            [found, *settings, "--auth-root-authentication-method=normal", "--skip-test-db", "--skip-name-resolve"],
            check=True,
            capture_output=True,
        )
        start = self.folder / "mariadb.sql"
        start.write_text(  # one statement a line
            "CREATE USER slurm@localhost;\nCREATE DATABASE slurm;\nGRANT ALL ON slurm.* TO slurm@localhost;\n"
        )
        self._start(
            "mariadbd",
            *("mariadbd", *settings, "--skip-networking", f"--socket={self.folder}/mariadb.socket"),
            *(f"--pid-file={self.folder}/mariadb.pid", f"--init-file={start}"),
        )
        self._wait(lambda: (self.folder / "mariadb.socket").exists(), "MariaDB made no socket")

    def start_database(self) -> None:
        """Start slurmdbd and wait until it answers."""
        self._start("slurmdbd", "slurmdbd", "-D", MYSQL_UNIX_PORT=str(self.folder / "mariadb.socket"))
        self._wait(lambda: self._answers("sacctmgr", "-n", "list", "cluster"), "slurmdbd does not answer")

    def _add_accounts(self) -> None:
        """The user may use the account `research` and the QOS `normal`, which `urgent` preempts; neither is needed."""
        self.sacctmgr("add", "account", ACCOUNT)
        self.sacctmgr("add", "account", "teaching")
        self.sacctmgr("add", "qos", "urgent", "Priority=1000")
        self.sacctmgr("modify", "qos", "urgent", "set", "Preempt=normal")
        self.sacctmgr("modify", "qos", "normal", "set", f"GraceTime={GRACE_SECONDS}")
        self.sacctmgr("add", "user", self.user, "account=teaching")
        self.sacctmgr("add", "user", self.user, f"account={ACCOUNT}")
        self.sacctmgr("modify", "user", self.user, "set", "DefaultAccount=teaching")
        self.sacctmgr("modify", "account", ACCOUNT, "set", "QOS=normal,urgent", "DefaultQOS=normal")

    def sacctmgr(self, *words: str) -> str:
        """Change accounts, users, QOS or limits without asking."""
        return self.ask("sacctmgr", "--immediate", *words)

    # Daemons

    def start_controller(self) -> None:
        """Start slurmctld, with the state that an earlier one saved, and wait until it and running nodes answer."""
        self._start("slurmctld", "slurmctld", "-D")
        self._wait(lambda: self._answers("scontrol", "ping"), "slurmctld does not answer")
        running = [node for node in self.nodes if f"slurmd-{node}" in self.daemons]
        self._wait(
            lambda: not any(re.search(r"unk|\*|not_resp", self.state_of(node)) for node in running),
            "the nodes do not answer",
        )

    def start_node(self, node: str) -> None:
        """Start slurmd and wait until its node takes jobs."""
        self._start(f"slurmd-{node}", "slurmd", "-D", "-N", node, start=self.starts.get(node, ()))
        self._wait(
            lambda: re.fullmatch(r"(idle|mixed|allocated)(\+planned|\+completing)*", self.state_of(node)),
            f"{node} does not get ready",
        )

    def kill(self, daemon: str) -> None:
        """Kill a daemon, such as `slurmctld`, `slurmdbd` or `slurmd-node1`, with signal 9, as a crash would."""
        self._end(daemon, signal.SIGKILL)

    def state_of(self, node: str) -> str:
        """The state of a node in SLURM's words, with its flags: `idle`, `down+not_responding+completing`.

        Not by `sinfo`: it calls a node that is down `completing` until its jobs have ended.
        """
        found = re.search(r"\bState=(\S+)", self.ask("scontrol", "--oneliner", "show", "node", node))
        assert found is not None, node
        return found[1].lower()

    def crash(self, node: str) -> None:
        """End slurmd and everything that it has started at once, as the failure of a machine would."""
        self.kill(f"slurmd-{node}")
        processes = list(self._processes(f"SLURMD_NODENAME={node}"))
        # First slurmstepd, the parent of a job's first process, which would report the end of the job.
        for process in {_parent(process) for process in processes}:
            if _name(process).startswith("slurmstepd"):
                processes.insert(0, process)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)

    def step_daemon(self, number: str) -> int | None:
        """The process number of the slurmstepd of a job's batch script; None if there is none."""
        for process in self._processes():
            with contextlib.suppress(OSError):
                if f"slurmstepd: [{number}.batch]" in Path(f"/proc/{process}/cmdline").read_text(errors="replace"):
                    return process
        return None

    def _processes(self, *variables: str) -> Iterator[int]:
        """The processes of this cluster whose environment has the variables, each written `NAME=value`."""
        wanted = {f"SLURM_CONF={self.environment['SLURM_CONF']}", *variables}
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if wanted <= set((folder / "environ").read_text(errors="replace").split("\0")):
                    yield int(folder.name)

    def cancel_everything(self) -> None:
        """Cancel all jobs and wait for their end."""
        for state in ("PENDING", "RUNNING"):
            subprocess.run(["scancel", f"--state={state}"], env=os.environ | self.environment, capture_output=True)
        deadline = time.monotonic() + ANSWER_SECONDS
        while self.queue() and time.monotonic() < deadline:
            time.sleep(0.2)

    # Questions

    def ask(self, *words: str) -> str:
        """What a command of SLURM answers; raises CalledProcessError where it fails."""
        outcome = subprocess.run(
            words, env=os.environ | self.environment, check=True, capture_output=True, text=True, timeout=60
        )
        return outcome.stdout.strip()

    def queue(self, *states: str) -> list[dict[str, str]]:
        """The jobs in the queue, or those in the states: number, comment (rule and wildcards), state, node, reason."""
        words = ["squeue", "--noheader", "--format=%i|%k|%T|%N|%r"]
        if states:
            words.append(f"--states={','.join(states)}")
        names = ("number", "comment", "state", "node", "reason")
        return [dict(zip(names, line.split("|"), strict=True)) for line in self.ask(*words).splitlines()]

    def job(self, number: str) -> dict[str, str]:
        """The fields of a job in the output of `scontrol show job`, by name."""
        fields: dict[str, str] = {}
        for line in self.ask("scontrol", "--details", "show", "job", number).splitlines():
            name, _, value = line.strip().partition("=")
            if name in ("WorkDir", "StdOut", "Command"):  # paths, with their spaces
                fields[name] = value
            else:
                fields |= dict(word.split("=", 1) for word in line.split() if "=" in word)
        return fields

    def _start(self, name: str, program: str, *words: str, start: Sequence[str] = (), **variables: str) -> None:
        found = _program(program)
        assert found is not None, program
        with (self.folder / f"{name}.output").open("ab") as output:
            self.daemons[name] = subprocess.Popen(
                [*start, found, *words],
                env=os.environ | self.environment | variables,
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
        except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
            return False

    def _wait(self, ready: Callable[[], bool], complaint: str) -> None:
        deadline = time.monotonic() + ANSWER_SECONDS
        while not ready():
            ended = [name for name, process in self.daemons.items() if process.poll() is not None]
            if ended or time.monotonic() > deadline:
                logs = "\n".join(self._tail(name) for name in self.daemons)
                raise RuntimeError(f"{complaint} (ended: {', '.join(ended) or 'none'})\n{logs}")
            time.sleep(0.1)

    def _tail(self, name: str) -> str:
        files = [self.folder / f"{name}.output", self.folder / f"{name}.log"]
        return "\n".join(f"{file}:\n{file.read_text(errors='replace')[-1500:]}" for file in files if file.exists())


def main() -> None:
    """Keep a cluster until Ctrl-C."""
    parser = argparse.ArgumentParser(description="A SLURM cluster on this machine, until Ctrl-C.")
    parser.parse_args()
    if missing := missing_programs(accounts=True):
        sys.exit(f"missing: {', '.join(missing)}. On Debian: apt-get install slurm-wlm slurmdbd mariadb-server munge")
    with tempfile.TemporaryDirectory(prefix="slurm-") as folder:
        cluster = SlurmCluster(Path(folder), nodes=("node1", "node2"), accounts=True)
        print("Starting MariaDB, slurmdbd, slurmctld and two slurmd ...", flush=True)
        with cluster:
            print(
                f"""
Two nodes with two GPUs (gpu:{GPU_TYPE}) each; partitions gpu and cpu; account {ACCOUNT}; QOS normal, preempted by
urgent. Set `slurm_account: {ACCOUNT}` in slurm/config.v8+.yaml. Then, in another terminal:

    export SLURM_CONF={cluster.environment["SLURM_CONF"]} PATH={folder}/bin:$PATH
    sinfo
    snakemake --profile slurm --configfile my.yaml
    squeue --me -o "%i %T %M %k %R"

Limits, for example: sacctmgr modify user where name={cluster.user} account={ACCOUNT} set MaxSubmitJobs=4
Logs: {folder}/*.log
Ctrl-C ends the cluster and its jobs.""",
                flush=True,
            )
            ends = {signal.SIGINT, signal.SIGTERM}
            signal.pthread_sigmask(signal.SIG_BLOCK, ends)
            signal.sigwait(ends)
            print("Ending the jobs and the daemons ...", flush=True)


if __name__ == "__main__":
    main()
