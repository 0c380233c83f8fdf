// The store of the Kubernetes API. Its own module's main package lies in a module that pins other versions of
// everything; the server is the same.
package main

import (
	"os"

	"go.etcd.io/etcd/server/v3/etcdmain"
)

func main() {
	etcdmain.Main(os.Args)
}
