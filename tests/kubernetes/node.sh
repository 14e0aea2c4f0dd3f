# shellcheck shell=sh
# SPDX-License-Identifier: Apache-2.0
# A Kubernetes of one node at the places where an administrator finds it, in namespaces of its own: what it writes to /etc,
# /usr/local and /var goes to $work and ends with it. Sourced with $work, $kubernetes (its programs) and $group (the control
# groups of its pods).

# Programs write here without changing the machine.
layer() # FOLDER
{
	mkdir -p "$work/layers$1/up" "$work/layers$1/work"
	mount -t overlay overlay -o "lowerdir=$1,upperdir=$work/layers$1/up,workdir=$work/layers$1/work" "$1" ||
		skip "no overlay over $1 here"
}

# kubelet sets these for the whole machine where they are different: it finds them as it wants them.
hide_settings()
{
	for setting in vm/overcommit_memory=1 vm/panic_on_oom=0 kernel/panic=10 kernel/panic_on_oops=1 \
		kernel/keys/root_maxkeys=1000000 kernel/keys/root_maxbytes=25000000; do
		file=$work/settings/${setting%=*}
		mkdir -p "$(dirname "$file")"
		echo "${setting#*=}" >"$file"
		mount --bind "$file" "/proc/sys/${setting%=*}"
	done
}

place_settings()
{
	mkdir -p /etc/containerd /etc/cni/net.d /etc/kubernetes "$work/node"
	cat >/etc/cni/net.d/10-pods.conflist <<'TEXT'
{"cniVersion": "0.4.0", "name": "pods", "plugins": [{"type": "bridge", "bridge": "pods0",
	"ipam": {"type": "host-local", "subnet": "10.99.1.0/24"}}]}
TEXT
	# containerd as NVIDIA's toolkit leaves it
	cat >/etc/containerd/config.toml <<TEXT
version = 2
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "$kubernetes/bin"
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "native"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia]
      runtime_type = "io.containerd.runc.v2"
      [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.nvidia.options]
        BinaryName = "/usr/local/bin/nvidia-container-runtime"
TEXT
	cat >/etc/kubernetes/admin.conf <<'TEXT'
apiVersion: v1
kind: Config
clusters: [{name: test, cluster: {server: "https://127.0.0.1:6443", insecure-skip-tls-verify: true}}]
users: [{name: admin, user: {token: test}}]
contexts: [{name: test, context: {cluster: test, user: admin}}]
current-context: test
TEXT
	# without the rights of a real root, and with any other limits than this machine's
	cat >/etc/kubernetes/kubelet.yaml <<TEXT
apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
cgroupDriver: cgroupfs
cgroupsPerQOS: false
cgroupRoot: /$group
enforceNodeAllocatable: []
failSwapOn: false
authentication: {anonymous: {enabled: true}, webhook: {enabled: false}}
authorization: {mode: AlwaysAllow}
oomScoreAdj: 0
evictionHard: {nodefs.available: "1%", imagefs.available: "1%", memory.available: "50Mi"}
makeIPTablesUtilChains: false
nodeStatusUpdateFrequency: 1s
TEXT
}

start() # NAME PROGRAM ARGUMENTS...
{
	name=$1
	shift
	setsid "$@" >>"$work/node/$name.log" 2>&1 </dev/null &
	echo $! >"$work/node/$name.pid"
}

start_control_plane()
{
	export KUBECONFIG=/etc/kubernetes/admin.conf
	ip link set lo up
	# kubelet wants an address of the node's that is no loopback one
	ip address add 10.99.0.1/32 dev lo
	openssl genrsa -out /etc/kubernetes/sa.key 2048 2>/dev/null
	echo 'test,admin,1,"system:masters"' >/etc/kubernetes/tokens.csv
	start etcd "$kubernetes/bin/etcd" --data-dir "$work/node/etcd"
	start apiserver "$kubernetes/bin/kube-apiserver" --etcd-servers http://127.0.0.1:2379 --advertise-address 10.99.0.1 \
		--cert-dir "$work/node/certs" --token-auth-file /etc/kubernetes/tokens.csv --authorization-mode AlwaysAllow \
		--service-account-issuer https://test --service-account-signing-key-file /etc/kubernetes/sa.key \
		--service-account-key-file /etc/kubernetes/sa.key --service-cluster-ip-range 10.96.0.0/24 \
		--disable-admission-plugins ServiceAccount --kubelet-preferred-address-types InternalIP
	systemctl restart containerd
}

start_node()
{
	eventually kubectl get --raw /readyz
	start scheduler "$kubernetes/bin/kube-scheduler" --kubeconfig /etc/kubernetes/admin.conf --leader-elect=false
	start controllers "$kubernetes/bin/kube-controller-manager" --kubeconfig /etc/kubernetes/admin.conf --leader-elect=false \
		--controllers 'nodelifecycle,podgc,garbagecollector'
	start kubelet "$kubernetes/bin/kubelet" --config /etc/kubernetes/kubelet.yaml --kubeconfig /etc/kubernetes/admin.conf \
		--container-runtime remote --container-runtime-endpoint unix:///run/containerd/containerd.sock \
		--hostname-override node --node-ip 10.99.0.1
	eventually kubectl get node node
	kubectl wait --for=condition=Ready node/node --timeout=60s >"$work/out" 2>&1 || fail "the node is not ready"
	kubectl apply -f - >"$work/out" 2>&1 <<'TEXT' || fail "no RuntimeClass"
{"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "metadata": {"name": "nvidia"}, "handler": "nvidia"}
TEXT
}

# For whoever reads why a test failed.
explain()
{
	kubectl get pods -A -o wide
	kubectl get events -A --sort-by=.metadata.creationTimestamp -o custom-columns=O:.involvedObject.name,R:.reason,M:.message |
		tail -n 30
	for log in "$work"/node/*.log; do
		echo "== $(basename "$log")"
		grep -E '^E|level=(error|fatal|warning) ' "$log" | tail -n 8
	done
}
