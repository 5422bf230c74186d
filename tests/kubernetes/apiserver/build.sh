#!/bin/bash
# Builds what the test needs of a real Kubernetes: build.sh FOLDER makes FOLDER/control-plane (API server, controller
# manager and kubectl in one program) and FOLDER/etcd, from their Go modules. It takes long the first time, seconds
# afterwards. Exits 77 with a line when there is no Go or its modules are not to be had.
set -u

folder=$(realpath -m "${1:?usage: build.sh FOLDER}")
here=$(dirname "$(realpath "$0")")
PATH=$PATH:/usr/local/go/bin

if ! command -v go >/dev/null; then
    echo "skipped: there is no Go here"
    exit 77
fi
mkdir -p "$folder"
"$here/../../support/etcd/build.sh" "$folder/etcd" || exit
cd "$here/control-plane" || exit 1
if ! log=$(go list -deps . 2>&1 >/dev/null); then
    echo "skipped: the Go modules are not available: $(grep -v "^go: downloading" <<<"$log" | head -1)"
    exit 77
fi
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes) || exit 1
IFS=. read -r major minor _ <<<"${version#v}"
name=k8s.io/component-base/version
exec nice -n 19 go build -p 2 -trimpath -o "$folder/control-plane" \
    -ldflags "-s -w -X $name.gitVersion=$version -X $name.gitMajor=$major -X $name.gitMinor=$minor" .
