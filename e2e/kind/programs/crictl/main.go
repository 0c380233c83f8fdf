// What kind asks a node's container runtime: `crictl inspecti IMAGE` and `crictl images`. The real crictl is a module
// of many more dependencies.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	cri "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crictl:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	connection, err := grpc.NewClient("unix:///run/containerd/containerd.sock",
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer connection.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	images := cri.NewImageServiceClient(connection)
	switch {
	case len(args) == 1 && args[0] == "images":
		return list(ctx, images)
	case len(args) == 2 && args[0] == "inspecti":
		return inspect(ctx, images, args[1])
	}
	return fmt.Errorf("%q is not a command; the commands are images, and inspecti IMAGE", strings.Join(args, " "))
}

func list(ctx context.Context, images cri.ImageServiceClient) error {
	answer, err := images.ListImages(ctx, &cri.ListImagesRequest{})
	if err != nil {
		return err
	}
	for _, image := range answer.Images {
		fmt.Println(image.Id, image.Size, strings.Join(image.RepoTags, " "))
	}
	return nil
}

func inspect(ctx context.Context, images cri.ImageServiceClient, name string) error {
	answer, err := images.ImageStatus(ctx, &cri.ImageStatusRequest{Image: &cri.ImageSpec{Image: name}})
	if err != nil {
		return err
	}
	if answer.Image == nil {
		return fmt.Errorf("there is no image %s", name)
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]any{
		"status": map[string]any{"id": answer.Image.Id, "repoTags": answer.Image.RepoTags},
	})
}
