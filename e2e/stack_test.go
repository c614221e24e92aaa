//go:build e2e

package e2e_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"testing"
)

// stack is what `stack up` wrote down about the OpenStack that runs.
type stack struct {
	Suite    string
	Database string
	Keystone string            // ends in /v3
	Barbican string            // without a version
	Regions  map[string]string // region → Glance, without a version
	Projects map[string]string // name → ID
	Users    map[string]user
}

type user struct {
	Name, ID, Password, Domain string
	Project                    string
	ProjectID                  string `json:"project_id"`
}

var openstack stack

// server is one way to run Glance. Both share a database and stores.
type server struct {
	name    string
	region  string
	address string // where it is not the stack's own; see anotherGlance
}

func (s server) url() string {
	if s.address != "" {
		return "http://" + s.address
	}
	return openstack.Regions[s.region]
}

var servers = []server{{name: "eventlet", region: "RegionOne"}, {name: "uwsgi", region: "RegionUwsgi"}}

// underBothServers plays a scenario under each Glance: they disagree about
// framing, early answers and cut uploads.
func underBothServers(t *testing.T, play func(*testing.T, server)) {
	for _, glance := range servers {
		t.Run(glance.name, func(t *testing.T) { play(t, glance) })
	}
}

// findStack reads the file that `stack up` writes and sees that each service
// answers.
func findStack() (stack, error) {
	const cure = "; bring it up: make stack"
	folder := os.Getenv("E2E_CACHE")
	if folder == "" {
		cache, err := os.UserCacheDir()
		if err != nil {
			return stack{}, err
		}
		folder = filepath.Join(cache, "countersign")
	}
	name := filepath.Join(folder, "e2e", "run-"+cmp.Or(os.Getenv("SUITE"), "trixie"), "stack.json")
	text, err := os.ReadFile(name)
	if err != nil {
		return stack{}, fmt.Errorf("there is no OpenStack to play on: %w%s", err, cure)
	}
	var s stack
	if err := json.Unmarshal(text, &s); err != nil {
		return stack{}, fmt.Errorf("%s: %w", name, err)
	}
	urls := []string{s.Keystone, s.Barbican}
	for _, glance := range servers {
		urls = append(urls, s.Regions[glance.region])
	}
	for _, url := range urls {
		answer, err := http.Get(url)
		if err != nil {
			return stack{}, fmt.Errorf("the OpenStack to play on does not answer: %w%s", err, cure)
		}
		answer.Body.Close()
	}
	return s, nil
}
