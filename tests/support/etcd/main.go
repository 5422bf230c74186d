// Command etcd is the real etcd server, built from its own Go module: what nabata is held against.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
