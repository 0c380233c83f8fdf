// The pod network of a kind cluster whose nodes share a bridge: on every node a configuration for the standard CNI
// plugins with the node's own range of addresses, and one route to the range of every other node. It follows the list
// of nodes by watching it. NetworkPolicies are not enforced.
package main

import (
	"context"
	"encoding/json"
	"log"
	"net"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	core "k8s.io/api/core/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/cache"
)

const configuration = "/etc/cni/net.d/10-routes.conflist"

func main() {
	config, err := rest.InClusterConfig()
	if err != nil {
		log.Fatal(err)
	}
	// The address of the service works only once kube-proxy does, which may come later.
	if address := os.Getenv("CONTROL_PLANE_ENDPOINT"); address != "" {
		config.Host = "https://" + address
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		log.Fatal(err)
	}
	// Everything is looked at again every few seconds: a route that could not be set is set then.
	factory := informers.NewSharedInformerFactory(client, 5*time.Second)
	handler := cache.ResourceEventHandlerFuncs{
		AddFunc:    func(node any) { follow(node.(*core.Node)) },
		UpdateFunc: func(_, node any) { follow(node.(*core.Node)) },
	}
	if _, err := factory.Core().V1().Nodes().Informer().AddEventHandler(handler); err != nil {
		log.Fatal(err)
	}
	factory.Start(context.Background().Done())
	select {}
}

func follow(node *core.Node) {
	if node.Spec.PodCIDR == "" {
		return
	}
	var err error
	if node.Name == os.Getenv("NODE_NAME") {
		err = configure(node.Spec.PodCIDR)
	} else {
		err = route(node)
	}
	if err != nil {
		log.Printf("node %s: %v", node.Name, err)
	}
}

// configure writes what the container runtime reads: a pair of interfaces per pod, an address out of the range.
func configure(subnet string) error {
	type object = map[string]any
	wanted, err := json.Marshal(object{
		"cniVersion": "0.4.0", "name": "routes",
		"plugins": []object{
			{"type": "ptp", "mtu": 1500, "ipMasq": false, "ipam": object{
				"type": "host-local", "dataDir": "/run/cni-ipam",
				"routes": []object{{"dst": "0.0.0.0/0"}}, "ranges": [][]object{{{"subnet": subnet}}},
			}},
			{"type": "portmap", "capabilities": object{"portMappings": true}},
		},
	})
	if err != nil {
		return err
	}
	if present, err := os.ReadFile(configuration); err == nil && string(present) == string(wanted) {
		return nil
	}
	if err := os.WriteFile(configuration+".new", wanted, 0o644); err != nil {
		return err
	}
	log.Printf("pods of this node get addresses of %s", subnet)
	return os.Rename(configuration+".new", configuration)
}

func route(node *core.Node) error {
	_, subnet, err := net.ParseCIDR(node.Spec.PodCIDR)
	if err != nil {
		return err
	}
	for _, address := range node.Status.Addresses {
		if gateway := net.ParseIP(address.Address).To4(); address.Type == core.NodeInternalIP && gateway != nil {
			return netlink.RouteReplace(&netlink.Route{Dst: subnet, Gw: gateway})
		}
	}
	return nil
}
