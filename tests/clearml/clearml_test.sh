#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# ClearML's own agent, whose tasks get parts of a GPU: by agent.conf, by fractions of queues, by what a task says. The server is
# server.py here; Docker is real. In the image the agent's python is a script that takes memory. Runs in the simulator with one GPU
# of 8 GiB.
# usage: clearml_test.sh BUILD-ROOT GUEST [newer]
set -eu
# shellcheck source=tests/engines/lib.sh
. "$(dirname "$0")/../engines/lib.sh"
needs runc python3 ldd
# shellcheck source=tests/engines/docker.sh
. "$(dirname "$0")/../engines/docker.sh"
here=$(dirname "$0")
module=$here/../../integrations/clearml/clearml_agent_fractional_gpu.py
"$here/../../tools/get-clearml-agent" "$build/clearml-agent" >"$work/out" 2>&1 || skip "$(tail -n 1 "$work/out")"

server=
agent_process=
is_over() # PID: gone, or waits to be asked how it ended
{
	! grep -q '^State:[[:space:]]*[^ZX]' "/proc/$1/status" 2>/dev/null
}

stop_agent()
{
	for process in $agent_process $server; do
		# the agent's handler raises an exception, which is lost where the agent catches all: asked more often, and not for ever
		for signal in TERM TERM TERM KILL; do
			kill -$signal "$process" 2>/dev/null || break
			for _ in $(seq 1 20); do
				is_over "$process" && break 2
				sleep 0.1
			done
		done
		wait "$process" 2>/dev/null || true
	done
	agent_process='' server=''
}

goodbye()
{
	stop_agent
	stop_engine
}

# the agent's docker, and NVIDIA's hook, which Docker wants for --gpus: the simulator's files come with -v
mkdir -p "$work/bin" "$work/home" "$work/tmp"
cat >"$work/bin/docker" <<TEXT
#!/bin/sh
exec $at_docker "$docker" --config "$work/docker" -H "unix://$work/docker.sock" "\$@"
TEXT
printf '#!/bin/sh\nexit 0\n' >"$work/bin/nvidia-container-runtime-hook"
chmod 755 "$work/bin"/*
PATH=$work/bin:$PATH

# the image: the C library, and what the agent calls python says what memory a program gets
make_image "$work/image.tar"
add_libraries "$guest"
ln -sf busybox "$work/image/bin/cp"
cat >"$work/image/bin/python3" <<'TEXT'
#!/bin/sh
case "$*" in *"-m clearml_agent"*) ;; *) exit 0 ;; esac
for mib in $HOLD; do hold "$mib" </dev/null; done
[ -z "$NAP" ] || sleep 1000
TEXT
printf '#!/bin/sh\nexec sh "$@"\n' >"$work/image/bin/bash"
chmod 755 "$work/image/bin/python3" "$work/image/bin/bash"
tar -C "$work/image" -cf "$work/image.tar" .

make_runtime "$work/fracgpu-runc" runc
start_dockerd runc
engine import "$work/image.tar" "$image" >"$work/out" 2>&1 || skip "Docker imports no image here: $(tail -n 1 "$work/out")"
engine run --rm --network none --gpus all "$image" true >"$work/out" 2>&1 ||
	skip "Docker runs no container here: $(tail -n 1 "$work/out")"
start_daemon '[default]\nmax = 6GiB\n'

# start_agent TASKS CONFIGURATION ARGUMENTS...: with a server that has the tasks
start_agent()
{
	stop_agent
	printf '%s' "$1" >"$work/tasks"
	rm -f "$work/port"
	python3 "$here/server.py" "$work/port" "$work/tasks" >"$work/ended" 2>"$work/server.log" &
	server=$!
	eventually [ -s "$work/port" ]
	cat >"$work/clearml.conf" <<TEXT
api { api_server: "http://127.0.0.1:$(cat "$work/port")", web_server: "http://127.0.0.1:1", files_server: "http://127.0.0.1:1"
	credentials { access_key: "key", secret_key: "secret" } }
agent { disable_agent_update_check: true, docker_init_bash_script: ["true"], disable_ssh_mount: true }
$2
TEXT
	shift 2
	env "HOME=$work/home" "TMPDIR=$work/tmp" "CLEARML_CONFIG_FILE=$work/clearml.conf" CLEARML_AGENT_QUEUE_POLL_FREQ_SEC=0.2 \
		"PYTHONPATH=$(dirname "$module")" PYTHONDONTWRITEBYTECODE=1 \
		"$build/clearml-agent/bin/clearml-agent" daemon --foreground --docker "$image" "$@" >"$work/agent.log" 2>&1 &
	agent_process=$!
}


said() # TEXT
{
	grep -q "$1" "$work/agent.log"
}

task() # ARGUMENTS: a server's tasks, one, t1
{
	printf '{"t1": {"image": "%s", "arguments": "%s"}}' "$image" "$1"
}

agent_has_ended()
{
	[ -s "$work/ended" ] || ! kill -0 "$agent_process"
}

# ran WHAT HOLDS: the task has ended, and said what memory it got, in order of "MIB:STATUS:TOTAL"
ran()
{
	eventually agent_has_ended
	grep -qx "t1 completed" "$work/ended" || fail "$1: $(cat "$work/ended"): $(grep -v -i "no task" "$work/agent.log" | tail -n 5)"
	sed -n 's/.*gpu 0 total \([0-9]*\) status \([0-9]*\).*/\2:\1/p' "$work/agent.log" | tr '\n' ' ' >"$work/out"
	[ "$(cat "$work/out")" = "$2 " ] || fail "$1: the task says $(cat "$work/out"), not $2"
}

# agent.conf as the module prints it; what the task says comes before it and does not count
PYTHONDONTWRITEBYTECODE=1 python3 "$module" --memory 512MiB --compute 25% -- $gpu_files >"$work/lines"
start_agent "$(task "-e HOLD='512 513' -eFRACGPU_MEMORY=4GiB -e FRACGPU_COMPUTE=90 --runtime runc")" "$(cat "$work/lines")" \
	--queue fractions --gpus 0
ran "agent.conf" "0:512 81:512"

# of a task's arguments only what is harmless
start_agent "$(task "--privileged -v /:/host -e HOLD='512 513'")" "$(cat "$work/lines")
agent.docker_args_filters: [\"^--env\$\", \"^-e\$\"]" --queue fractions --gpus 0
ran filters "0:512 81:512"
! grep "Executing: .*'docker', 'run'" "$work/agent.log" | grep -Eq "'--privileged'|'/:/host'" || fail "the agent's filter lets all pass"

# a running task's slice has the share of the GPU's time, and shows in fracgpu ps; aborted, it is gone
start_agent "$(task "-e HOLD=512 -e NAP=yes")" "$(cat "$work/lines")" --queue fractions --gpus 0
eventually said 'gpu 0 total 512 status 0'
id=$(engine ps -q)
eventually slice_is "$id" .door container
[ "$("$fracgpu" stat "$id" --json | jq .compute.max_permille)" -eq 250 ] || fail "no share of the GPU's time"
engine rm -f "$id" >"$work/out" 2>&1
eventually slice_is "$id" .door ""

# fractions of queues: the agent calls our module
files=$(for word in $gpu_files; do printf '"%s", ' "$word"; done)
start_agent "$(task "-e HOLD='2048 2049' -e FRACGPU_MEMORY=4GiB --runtime runc")" "agent.extra_docker_arguments: [$files]" \
	--dynamic-gpus --gpus 0 --queue fractions=0.25
ran "a queue's fraction" "0:2048 81:2048"

# per task: the agent only makes it hard, what the task says is the limit, up to the host's most
start_agent "$(task "-e HOLD='300 301' -e NVIDIA_GPU_MEMORY_LIMIT=300")" \
	"agent.extra_docker_arguments: [\"--runtime\", \"fracgpu\", $files]" --queue fractions --gpus 0
ran "the task's arguments" "0:300 81:300"
start_agent "$(task "-e HOLD='6144 6145' -e NVIDIA_GPU_MEMORY_LIMIT=7000")" \
	"agent.extra_docker_arguments: [\"--runtime\", \"fracgpu\", $files]" --queue fractions --gpus 0
ran "the host's most" "0:6144 81:6144"

# by a profile, without another runtime: nothing that the task says takes it away
version=$(engine version --format '{{.Server.Version}}')
if [ "${version%%.*}" -ge 23 ]; then
	"$fracgpu" seccomp-profile --socket "$agent" --runtime runc --memory 256MiB --output "$work/hard.json" 2>"$work/out"
	start_agent "$(task "-e HOLD='256 257' -e FRACGPU_MEMORY=4GiB --security-opt seccomp=unconfined")" \
		"agent.extra_docker_arguments: [\"--security-opt\", \"seccomp=$work/hard.json\", $files]" --queue fractions --gpus 0
	ran profile "0:256 81:256"
fi

# an image with a limit of its own, and nothing on the host; then the same image made hard
TMPDIR=$work/tmp DOCKER_BUILDKIT=0 ENGINE=$work/bin/docker BASE=$image MEMORY=2 TAG=2gb IMAGE=fracgpu-image \
	"$(cd "$here/../../integrations/images" && pwd)/build" "$build" >"$work/build.log" 2>&1 || fail "the image is not built"
image="fracgpu-image:2gb"
start_agent "$(task "-e HOLD='2048 2049' -e GPU_MEM_LIMIT_GB=8")" "agent.extra_docker_arguments: [$files]" \
	--queue fractions --gpus 0
ran "an image with a limit" "0:2048 81:2048"
start_agent "$(task "-e HOLD='512 513'")" "$(cat "$work/lines")" --queue fractions --gpus 0
ran "an image with a limit, made hard" "0:512 81:512"
stop_agent
echo "clearml_test: ok (clearml-agent $(cat "$build/clearml-agent/clearml-agent-version"), Docker $version)"
