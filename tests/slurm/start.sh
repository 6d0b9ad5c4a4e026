#!/usr/bin/env bash
# A SLURM of one machine on loopback, all of it below a folder: munge, controller, one node.
# Needs Debian's packages slurm-wlm and munge; neither systemd nor cgroups. Runs as whoever starts it.
#
#   tests/slurm/start.sh FOLDER   start; then: export SLURM_CONF=FOLDER/slurm.conf
#   tests/slurm/stop.sh FOLDER    stop
set -euo pipefail
folder=$(mkdir -p "$1" && cd "$1" && pwd)
export PATH=$PATH:/usr/sbin:/sbin
mkdir -p "$folder"/{munge,state,spool,logs}
chmod 755 "$folder" "$folder/munge"

head -c 1024 /dev/urandom > "$folder/munge/key"
chmod 400 "$folder/munge/key"

memory=$(awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo)
cat > "$folder/slurm.conf" <<CONF
ClusterName=fade
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=${SLURMCTLD_PORT:-26817}
SlurmdPort=${SLURMD_PORT:-26818}
CommunicationParameters=NoCtldInAddrAny,NoInAddrAny
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/logs/slurmctld
SlurmdLogFile=$folder/logs/slurmd
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
MpiDefault=none
SwitchType=switch/none
SchedulerType=sched/backfill
SchedulerParameters=batch_sched_delay=0,sched_interval=1
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU_Memory
ReturnToService=2
KillWait=5
MinJobAge=10
NodeName=loopback NodeHostname=$(hostname -s) NodeAddr=127.0.0.1 CPUs=$(nproc) RealMemory=$memory State=UNKNOWN
PartitionName=all Nodes=loopback Default=YES MaxTime=01:00:00 State=UP
CONF
export SLURM_CONF=$folder/slurm.conf

munged --force --foreground --key-file="$folder/munge/key" --socket="$folder/munge/socket" \
  --pid-file="$folder/munge/pid" --log-file="$folder/logs/munged" --seed-file="$folder/munge/seed" \
  > "$folder/logs/start" 2>&1 &
echo $! > "$folder/pids"
for _ in $(seq 100); do test -S "$folder/munge/socket" && break; sleep 0.1; done
slurmctld -D >> "$folder/logs/start" 2>&1 &
echo $! >> "$folder/pids"
slurmd -D >> "$folder/logs/start" 2>&1 &
echo $! >> "$folder/pids"

for _ in $(seq 300); do
  if sinfo --noheader --format=%T 2>/dev/null | grep -qE '^(idle|mixed)$'; then
    sinfo
    exit 0
  fi
  sleep 0.2
done
echo "SLURM does not start:" >&2
tail -n 20 "$folder"/logs/* >&2
"$(dirname "$0")/stop.sh" "$folder"
exit 1
