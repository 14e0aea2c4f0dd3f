#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# docs/howto-kubernetes.md, word for word, and more, in a Kubernetes of one node with one simulated GPU.
# usage: kubernetes_test.sh BUILD-ROOT GUEST STATIC-GUEST KUBERNETES NVIDIA-TOOLS (the last two may be empty)
set -eu
here=$(cd "$(dirname "$0")" && pwd)
build=$1 guest=$2 static_guest=$3 kubernetes=$4 NVIDIA_TOOLS=$5
page=$here/../../docs/howto-kubernetes.md
pod_file=$here/../../integrations/kubernetes/pod.yaml

# The outer half: namespaces, and an end to all that was in them, also on a signal.
if [ -z "${INSIDE:-}" ]; then
	# shellcheck source=tests/lib/container.sh
	. "$here/../lib/container.sh"
	[ "$(id -u)" -eq 0 ] || skip "needs root"
	for need in unshare ip containerd ctr runc crun podman openssl jq curl; do
		command -v "$need" >/dev/null || skip "$need is not installed"
	done
	[ -x "${kubernetes:-/none}/bin/kubelet" ] || skip "there is no Kubernetes (tools/get-kubernetes, option kubernetes)"
	work=$(mktemp -d)
	group=fracgpu-kubernetes-$$
	node=
	cleanup()
	{
		[ -z "$node" ] || kill -KILL "$node" 2>/dev/null || true
		wait || true
		for _ in $(seq 1 100); do
			find /sys/fs/cgroup -depth -type d -path "/sys/fs/cgroup/*$group*" -exec rmdir {} + 2>/dev/null || true
			[ -n "$(find /sys/fs/cgroup -maxdepth 2 -name "$group" 2>/dev/null)" ] || break
			sleep 0.05
		done
		rm -rf "$work"
	}
	trap cleanup EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
	set -- "$build" "$guest" "$static_guest" "$kubernetes" "$NVIDIA_TOOLS"
	driver=
	[ ! -s "${NVIDIA_TOOLS:-/none}/driver-version" ] || driver="--driver $(cat "$NVIDIA_TOOLS/driver-version")"
	# shellcheck disable=SC2086 # words
	INSIDE=yes TMPDIR=$work group=$group unshare --mount --propagation private --pid --fork --kill-child --mount-proc --net \
		"$build/sim/fracgpu-sim" --gpu h200 $driver -- sh "$0" "$@" &
	node=$!
	status=0
	wait "$node" || status=$?
	exit "$status"
fi

mount -t tmpfs -o mode=755 tmpfs "$TMPDIR"
# shellcheck source=tests/engines/lib.sh
. "$here/../engines/lib.sh"
IN_NAMESPACE=yes
needs podman crun
# shellcheck source=tests/engines/podman.sh
. "$here/../engines/podman.sh"
# shellcheck source=tests/kubernetes/node.sh
. "$here/node.sh"

# what is in the namespaces ends with them
cleanup()
{
	case $? in
	0 | 77) ;;
	*) explain >&2 ;;
	esac
}
for folder in /etc /usr/local /var; do layer "$folder"; done
hide_settings
export NODE=$work/node NVIDIA_TOOLS HOME=$work
export PATH=/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin
for program in src/cli/fracgpu src/daemon/fracgpud src/runtime/fracgpu-runtime; do
	ln -sf "$build/$program" /usr/local/bin/
done
ln -sf "$kubernetes/bin/kubectl" "$here/systemctl" "$here/nvidia-container-runtime" /usr/local/bin/
place_settings
start_control_plane

# ---- images, while that starts: any, whose name is of the page; one with a limit, built on it; and for the pods' namespaces

cat >/usr/local/bin/podman <<TEXT
#!/bin/sh
case \$1 in build) shift && set -- build --network none --pull=never "\$@" ;; esac
exec /usr/bin/podman --root "$work/podman/root" --runroot "$work/podman/run" --storage-driver vfs --runtime crun "\$@"
TEXT
chmod 755 /usr/local/bin/podman
make_image "$work/image.tar"
add_libraries "$guest"
if [ -n "$NVIDIA_TOOLS" ]; then add_libraries "$NVIDIA_TOOLS/bin/nvidia-smi"; fi
cp "$static_guest" "$work/image/bin/hold-static"
# the simulator's files have to look like devices: that is no part of the toolkit's
cp "$build/sim/libfracgpu-sim-chardev.so" "$work/image/bin/"
tar -C "$work/image" -cf "$work/image.tar" .
any=docker.io/nvidia/cuda:12.3.2-base-ubuntu22.04
podman import --change 'CMD ["/bin/sleep", "infinity"]' --change ENV=LD_PRELOAD=/bin/libfracgpu-sim-chardev.so \
	"$work/image.tar" "$any" >"$work/out" 2>&1 ||
	skip "podman imports no image here: $(tail -n 1 "$work/out")"
ENGINE=/usr/local/bin/podman BASE=$any MEMORY=8 TAG=u22-cu12.3-8gb "$here/../../integrations/images/build" "$build" \
	>"$work/out" 2>&1 || fail "the image is not built"
podman tag "$any" localhost/pause:1
for name in "$any" localhost/pause:1; do
	podman save "$name" 2>"$work/out" | ctr -n k8s.io images import - >>"$work/out" 2>&1 || fail "containerd takes no image"
done
start_node

# ---- what pods get

# At containerd: else it tries a pod again only seconds later.
kubelet_is_back()
{
	eventually kubectl get --raw /api/v1/nodes/node/proxy/stats/summary
}

# The commands of the page, in order.
page() # NUMBER
{
	awk -v wanted="$1" '/^ *```sh$/ { inside = ++n == wanted; match($0, / */); indent = RLENGTH; next }
		/^ *```$/ { inside = 0 } inside { print substr($0, indent + 1) }' "$page" >"$work/step"
	[ -s "$work/step" ] || fail "the page has no step $1"
	[ -n "$NVIDIA_TOOLS" ] || sed -i '/nvidia-smi/d' "$work/step"
	(cd "$here/../.." && sh -eux "$work/step") >"$work/out" 2>&1 || fail "step $1 of the page fails"
}

apply()
{
	kubectl apply -f - >"$work/out" 2>&1 || fail "the pods are not taken"
}

says() # TEXT
{
	grep -q -- "$1" "$work/out" || fail "it does not say '$1'"
}

# A step that ends with nvidia-smi, and what that has to say.
page_shows() # NUMBER MIB
{
	page "$1"
	[ -z "$NVIDIA_TOOLS" ] || says "^$2 MiB\$"
}

# hold POD MIB STATUS TOTAL [COMMAND...]: what a program started in a pod gets
hold()
{
	pod=$1 mib=$2 status=$3 total=$4
	shift 4
	[ $# -gt 0 ] || set -- /bin/hold
	# shellcheck disable=SC2086 # a name, and perhaps its namespace
	kubectl exec $pod -- "$@" "$mib" >"$work/out" 2>&1 </dev/null || fail "$pod: '$*' does not run"
	is_hold "$pod: $*" "$mib" "$status" "$total"
}

# A program that goes on holding, until let_go.
keep() # POD MIB
{
	mkfifo "$work/keep-$1"
	sleep 1000 >"$work/keep-$1" &
	echo $! >"$work/keeper-$1"
	kubectl exec -i "$1" -- /bin/hold "$2" <"$work/keep-$1" >"$work/kept-$1" 2>&1 &
	eventually grep -q "status 0" "$work/kept-$1"
}

let_go() # POD
{
	kill "$(cat "$work/keeper-$1")"
	rm "$work/keep-$1"
}

used_mib()
{
	jq '.gpus[0].used / 1048576 | floor' /dev/fracgpu-sim-state
}

uses() # MIB
{
	[ "$(used_mib)" -eq "$1" ]
}

ready() # pod/NAME... [-n NAMESPACE]
{
	kubectl wait --for=condition=Ready --timeout=2m "$@" >"$work/out" 2>&1 || fail "not ready: $*"
}

page_shows 1 8192
page_shows 2 8192
page_shows 1 8192
page_shows 2 8192

# a second pod of the image; one that leaves the entrypoint out; a user without rights
sed 's/name: train$/name: second/' "$pod_file" | apply
sed 's/name: train$/name: skips/; s/args:/command:/' "$pod_file" | apply
sed 's/name: train$/name: user/; s/^  restartPolicy/  securityContext: {runAsUser: 1234, seccompProfile: {type: RuntimeDefault}}\n&/
	s/^      args/      securityContext: {allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}}\n&/' "$pod_file" | apply
ready pod/second pod/skips pod/user
for pod in train train-hostpid user; do
	hold "$pod" 8192 0 8192
	hold "$pod" 8193 81 8192
done
! kubectl exec skips -- /bin/hold 1 >"$work/out" 2>&1 </dev/null || fail "a GPU without the entrypoint"
# each its own, and one account for all programs of one
keep train 8000
hold second 8192 0 8192
hold train 192 0 8192
hold train 193 81 8192
uses 8000 || fail "the card holds $(used_mib) MiB"
keep second 8100
eventually uses 16100
kubectl delete pod train --grace-period=1 --wait=false >"$work/out" 2>&1
eventually uses 8100
kubectl delete pod second skips user train-hostpid --grace-period=1 --wait=false >"$work/out" 2>&1
eventually uses 0

# ---- any image

page 3
page 4
kubelet_is_back
page_shows 5 4096
page 6
says 'fracgpu_slice_memory_limit_bytes{.*container="work",pod="any-image",namespace="default",.*} 4294967296$'
slice=$(fracgpu ps --json | jq -r '.slices[].name')
says "slice=\"$slice\""
hold any-image 4096 0 4096
hold any-image 4097 81 4096
hold any-image 4097 81 4096 /bin/env -u LD_PRELOAD /bin/hold
hold any-image 4097 81 4096 /bin/env -i FRACGPU_MEMORY=80GiB /bin/hold
hold any-image 4096 0 4096 /bin/hold-static
hold any-image 4097 81 4096 /bin/hold-static
hold any-image 4097 81 4096 /bin/env -i /bin/hold-static

# who may say what: the host's most, a container's environment before its pod's annotations, the names of others
any_pod() # NAME ANNOTATIONS ENVIRONMENT [MORE]
{
	cat <<TEXT
{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "$1", "namespace": "${5:-default}", "annotations": {$2}},
 "spec": {"restartPolicy": "Never", "runtimeClassName": "fracgpu"${4:-}, "containers": [{"name": "work", "image": "$any",
  "command": ["sleep", "infinity"], "env": [{"name": "NVIDIA_VISIBLE_DEVICES", "value": "all"}$3]}]}}
TEXT
}

variable() # NAME VALUE
{
	printf ', {"name": "%s", "value": "%s"}' "$1" "$2"
}

kubectl create namespace team-a >"$work/out" 2>&1
{
	any_pod greedy '"fracgpu.io/memory": "80GiB"' ""
	any_pod greedy-env "" "$(variable FRACGPU_MEMORY 80GiB)"
	any_pod environment '"fracgpu.io/memory": "4GiB"' "$(variable NVIDIA_GPU_MEMORY_LIMIT 512)"
	any_pod hami "" "$(variable CUDA_DEVICE_MEMORY_LIMIT 1g)$(variable CUDA_DEVICE_SM_LIMIT 30)"
	any_pod kai '"gpu-memory": "300"' "" ', "hostPID": true'
	any_pod given '"fracgpu.io/memory": "8GiB"' "$(variable FRACGPU_MEMORY 6GiB)" \
		', "securityContext": {"runAsUser": 1234, "seccompProfile": {"type": "Unconfined"}}' team-a
} | apply
ready pod/greedy pod/greedy-env pod/environment pod/hami pod/kai
ready -n team-a pod/given
hold greedy 8192 0 8192
hold greedy 8193 81 8192
hold greedy-env 8193 81 8192
hold environment 512 0 512
hold environment 513 81 512
hold hami 1025 81 1024
hold kai 300 0 300
hold kai 301 81 300
hold kai 301 81 300 /bin/hold-static
hold "given -n team-a" 2048 0 2048
hold "given -n team-a" 2049 81 2048
hold "given -n team-a" 2049 81 2048 /bin/hold-static
metric() # PATTERN VALUE
{
	curl -s http://127.0.0.1:9401/metrics | grep -q "^$1 $2\$"
}
eventually metric 'fracgpu_slice_compute_limit_ratio{.*pod="hami",namespace="default"}' '0[.]30*'
eventually metric 'fracgpu_slice_memory_limit_bytes{.*pod="given",namespace="team-a",.*}' 2147483648

# who gets no GPU does not start, and is told why
{
	any_pod beyond "" "" "" team-b
	any_pod wrong "" "$(variable FRACGPU_MEMORY lots)"
} >"$work/pods.json"
printf '[pod team-b/*]\nmemory = 130GiB\n' >>/etc/fracgpu/fracgpud.conf
systemctl reload fracgpud
kubectl create namespace team-b >"$work/out" 2>&1
apply <"$work/pods.json"
# the runtime may have words of its own before
last_words() # WORDS POD [-n NAMESPACE]
{
	words=$1
	shift
	kubectl get pod "$@" -o 'jsonpath={.status.phase} {.status.containerStatuses[0].state.terminated.message}' |
		grep -q "^Failed .*fracgpu: .*$words"
}
eventually last_words "it would get 130 GiB" beyond -n team-b
eventually last_words "'lots' is not a size" wrong

# fracgpud away: what runs keeps what it has, what asks for a GPU does not start, by kubectl exec neither, and all else does
keep kai 200
systemctl stop fracgpud
{
	any_pod late "" ""
	any_pod no-gpu "" "" | sed 's/"value": "all"/"value": "void"/'
} | apply
! kubectl exec kai -- /bin/hold-static 1 >"$work/out" 2>&1 </dev/null || fail "exec starts without fracgpud"
ready pod/no-gpu
is_phase() # POD PHASE
{
	[ "$(kubectl get pod "$1" -o 'jsonpath={.status.phase}')" = "$2" ]
}
eventually is_phase late Failed
systemctl start fracgpud
uses 200
hold kai 101 81 300
hold kai 100 0 300

# no way around: NVIDIA's class is limited too, and an image that limits itself is limited twice
page 7
kubelet_is_back
{
	cat "$pod_file"
	echo "---"
	sed 's/^  name: train$/&\n  namespace: team-a/' "$pod_file"
} | apply
any_pod around '"fracgpu.io/memory": "1GiB"' "$(variable FRACGPU_MEMORY 80GiB)" | sed 's/"fracgpu",/"nvidia",/' | apply
ready pod/around pod/train
ready -n team-a pod/train
hold around 8192 0 8192
hold around 8193 81 8192 /bin/hold-static
hold train 8192 0 8192
hold train 8193 81 8192
hold train 8193 81 8192 /bin/hold-static
hold "train -n team-a" 2048 0 2048
hold "train -n team-a" 2049 81 2048
hold "train -n team-a" 2049 81 2048 /bin/hold-static

# what a pod held is free, and its slice gone, when it is deleted
slices()
{
	fracgpu ps --json | jq '.slices | length'
}
has_slices() # NUMBER
{
	[ "$(slices)" -eq "$1" ]
}
keep any-image 4000
uses 4200
kubectl delete pod any-image --grace-period=1 --wait=false >"$work/out" 2>&1
eventually uses 200
kubectl delete --all pods -A --grace-period=1 --wait=false >"$work/out" 2>&1
eventually uses 0
eventually has_slices 0
echo "kubernetes_test: ok (Kubernetes $(cat "$kubernetes/version"), $(containerd --version | cut -d' ' -f3))"
