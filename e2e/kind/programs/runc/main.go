// A runc for machines that hold less than everything: Docker gives a privileged container every capability and kind's
// nodes ask for that, but runc cannot give what this machine does not have. The configuration of the container is
// changed to what can be had, then the real runc (RUNC, or /usr/sbin/runc) takes over. Where nothing is lacking
// nothing changes.
package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// What a container may be refused: the capability to raise limits, and with it scores below zero.
const lacking = "CAP_SYS_RESOURCE"

type object = map[string]any

func main() {
	real := os.Getenv("RUNC")
	if real == "" {
		real = "/usr/sbin/runc"
	}
	if path, within := configuration(os.Args[1:]); path != "" {
		if err := rewrite(path, within); err != nil {
			fmt.Fprintln(os.Stderr, "runc: the configuration of the container:", err)
			os.Exit(1)
		}
	}
	err := syscall.Exec(real, append([]string{real}, os.Args[1:]...), os.Environ())
	fmt.Fprintf(os.Stderr, "runc: %s: %v\n", real, err)
	os.Exit(127)
}

// configuration says which file describes the process that the command starts, and whether that is a whole container.
func configuration(args []string) (path string, within bool) {
	options := map[string]string{}
	command := ""
	for i, arg := range args {
		name, value, joined := strings.Cut(arg, "=")
		if !joined && i+1 < len(args) {
			value = args[i+1]
		}
		switch name {
		case "--bundle", "-b", "--process", "-p":
			options[strings.TrimLeft(name, "-")[:1]] = value
		case "create", "run", "exec":
			if command == "" {
				command = name
			}
		}
	}
	switch command {
	case "create", "run":
		return filepath.Join(options["b"], "config.json"), true
	case "exec":
		return options["p"], false
	}
	return "", false
}

func rewrite(path string, within bool) error {
	text, err := os.ReadFile(path)
	if err != nil {
		return err
	}
	// Numbers stay as they are written: some do not fit into a float.
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var config object
	if err := decoder.Decode(&config); err != nil {
		return err
	}
	process := config
	if within {
		process, _ = config["process"].(object)
	}
	if process == nil || held() {
		return nil
	}
	lower(process)
	text, err = json.Marshal(config)
	if err != nil {
		return err
	}
	return os.WriteFile(path, text, 0o600)
}

// held says whether the bounding set of this process holds CAP_SYS_RESOURCE, number 24.
func held() bool {
	const prBoundingSetRead, number = 23, 24
	answer, _, _ := syscall.RawSyscall(syscall.SYS_PRCTL, prBoundingSetRead, number, 0)
	return answer == 1
}

func lower(process object) {
	if sets, ok := process["capabilities"].(object); ok {
		for name, set := range sets {
			kept := []any{}
			for _, capability := range asList(set) {
				if capability != lacking {
					kept = append(kept, capability)
				}
			}
			sets[name] = kept
		}
	}
	if score, ok := process["oomScoreAdj"].(json.Number); ok && strings.HasPrefix(score.String(), "-") {
		process["oomScoreAdj"] = 0
	}
	limits := []any{}
	for _, limit := range asList(process["rlimits"]) {
		if limit, ok := limit.(object); ok && permitted(limit) {
			limits = append(limits, limit)
		}
	}
	process["rlimits"] = limits
}

func permitted(limit object) bool {
	numbers := map[any]int{"RLIMIT_NOFILE": 7, "RLIMIT_NPROC": 6, "RLIMIT_CORE": 4, "RLIMIT_MEMLOCK": 8}
	number, known := numbers[limit["type"]]
	var current syscall.Rlimit
	if !known || syscall.Getrlimit(number, &current) != nil {
		return true
	}
	var hard uint64
	text, _ := limit["hard"].(json.Number)
	if _, err := fmt.Sscan(text.String(), &hard); err != nil {
		return false
	}
	return hard <= current.Max
}

func asList(value any) []any {
	list, _ := value.([]any)
	return list
}
