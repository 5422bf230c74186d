module nabata/tests/kubernetes/manifests

go 1.26
