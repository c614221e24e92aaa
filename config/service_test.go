package config_test

import (
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/gophercloud/gophercloud/v2"

	"github.com/countersign/countersign/config"
)

// password is looked for wherever it must not be.
const password = "correct-horse-battery-staple"

// user is a complete credential by password.
func user(more map[string]string) map[string]string {
	e := map[string]string{
		"OS_AUTH_URL":            "https://keystone:5000/v3",
		"OS_USERNAME":            "countersign",
		"OS_USER_DOMAIN_NAME":    "Default",
		"OS_PASSWORD":            password,
		"OS_PROJECT_NAME":        "service",
		"OS_PROJECT_DOMAIN_NAME": "Default",
	}
	maps.Copy(e, more)
	return environ(e)
}

// application is a complete application credential.
func application(more map[string]string) map[string]string {
	e := map[string]string{
		"OS_AUTH_URL":                      "https://keystone:5000/v3",
		"OS_APPLICATION_CREDENTIAL_ID":     "abc",
		"OS_APPLICATION_CREDENTIAL_SECRET": password,
	}
	maps.Copy(e, more)
	return environ(e)
}

// service loads and compares the credential.
func service(t *testing.T, env map[string]string, want gophercloud.AuthOptions, endpoint gophercloud.EndpointOpts) config.Config {
	t.Helper()
	c, err := config.Load(env)
	if err != nil {
		t.Fatalf("Load: %v", err)
	}
	s := c.Service
	if !s.Configured {
		t.Fatal("Service is not configured")
	}
	want.AllowReauth = true
	got, wantScope := s.AuthOptions, want.Scope
	if (got.Scope == nil) != (wantScope == nil) || got.Scope != nil && *got.Scope != *wantScope {
		t.Errorf("Scope = %+v, want %+v", got.Scope, wantScope)
	}
	got.Scope, want.Scope = nil, nil
	if got != want {
		t.Errorf("AuthOptions = %+v, want %+v", got, want)
	}
	if endpoint.Availability == "" {
		endpoint.Availability = gophercloud.AvailabilityPublic
	}
	if fmt.Sprint(s.EndpointOpts) != fmt.Sprint(endpoint) {
		t.Errorf("EndpointOpts = %+v, want %+v", s.EndpointOpts, endpoint)
	}
	if s.TLS == nil || s.TLS.InsecureSkipVerify {
		t.Errorf("TLS = %+v, want one that verifies", s.TLS)
	}
	return c
}

func TestServiceFromVariables(t *testing.T) {
	byName := gophercloud.AuthOptions{
		IdentityEndpoint: "https://keystone:5000/v3",
		Username:         "countersign",
		DomainName:       "Default",
		Password:         password,
		Scope:            &gophercloud.AuthScope{ProjectName: "service", DomainName: "Default"},
	}
	t.Run("password", func(t *testing.T) { service(t, user(nil), byName, gophercloud.EndpointOpts{}) })
	t.Run("password file", func(t *testing.T) {
		service(t, user(map[string]string{"OS_PASSWORD": "", "OS_PASSWORD_FILE": write(t, "password", password+"\n")}), byName, gophercloud.EndpointOpts{})
	})
	t.Run("region and interface", func(t *testing.T) {
		service(t, user(map[string]string{"OS_REGION_NAME": "north", "OS_INTERFACE": "internalURL", "OS_AUTH_TYPE": "v3password", "OS_INSECURE": "false", "OS_IDENTITY_API_VERSION": "3"}),
			byName, gophercloud.EndpointOpts{Region: "north", Availability: gophercloud.AvailabilityInternal})
	})
	t.Run("ids", func(t *testing.T) {
		service(t, user(map[string]string{"OS_USERNAME": "", "OS_USER_ID": "u1", "OS_PROJECT_ID": "p1"}), gophercloud.AuthOptions{
			IdentityEndpoint: "https://keystone:5000/v3",
			UserID:           "u1",
			Password:         password,
			Scope:            &gophercloud.AuthScope{ProjectID: "p1"},
		}, gophercloud.EndpointOpts{})
	})
	t.Run("domain ids", func(t *testing.T) {
		service(t, user(map[string]string{
			"OS_USER_DOMAIN_NAME": "", "OS_USER_DOMAIN_ID": "d1", "OS_PROJECT_DOMAIN_NAME": "", "OS_PROJECT_DOMAIN_ID": "d2",
		}), gophercloud.AuthOptions{
			IdentityEndpoint: "https://keystone:5000/v3",
			Username:         "countersign",
			DomainID:         "d1",
			Password:         password,
			Scope:            &gophercloud.AuthScope{ProjectName: "service", DomainID: "d2"},
		}, gophercloud.EndpointOpts{})
	})
	t.Run("application credential", func(t *testing.T) {
		service(t, application(map[string]string{"OS_AUTH_TYPE": "v3applicationcredential"}), gophercloud.AuthOptions{
			IdentityEndpoint:            "https://keystone:5000/v3",
			ApplicationCredentialID:     "abc",
			ApplicationCredentialSecret: password,
		}, gophercloud.EndpointOpts{})
	})
	t.Run("application credential by name, secret in a file", func(t *testing.T) {
		service(t, application(map[string]string{
			"OS_APPLICATION_CREDENTIAL_ID": "", "OS_APPLICATION_CREDENTIAL_NAME": "gate", "OS_USERNAME": "countersign", "OS_USER_DOMAIN_NAME": "Default",
			"OS_APPLICATION_CREDENTIAL_SECRET": "", "OS_APPLICATION_CREDENTIAL_SECRET_FILE": write(t, "secret", password),
		}), gophercloud.AuthOptions{
			IdentityEndpoint:            "https://keystone:5000/v3",
			Username:                    "countersign",
			DomainName:                  "Default",
			ApplicationCredentialName:   "gate",
			ApplicationCredentialSecret: password,
		}, gophercloud.EndpointOpts{})
	})
}

func TestServiceNotConfigured(t *testing.T) {
	c, err := config.Load(environ(map[string]string{"OS_REGION_NAME": "north", "OS_INTERFACE": "admin", "OS_PASSWORD": "", "OS_IMAGE_API_VERSION": "2"}))
	if err != nil || c.Service.Configured {
		t.Errorf("Load = %v, %v, want no service credential and no error", c.Service, err)
	}
}

// Each credential that cannot work, and the variables blamed for it.
func TestServiceWrong(t *testing.T) {
	set := func(pairs ...string) map[string]string {
		m := make(map[string]string)
		for i := 0; i < len(pairs); i += 2 {
			m[pairs[i]] = pairs[i+1]
		}
		return m
	}
	empty := write(t, "empty", "\n")
	for _, test := range []struct {
		name string
		env  map[string]string
		want []string
	}{
		{"no Keystone", user(set("OS_AUTH_URL", "")), []string{"OS_AUTH_URL"}},
		{"a Keystone that is no URL", user(set("OS_AUTH_URL", "keystone:5000")), []string{"OS_AUTH_URL"}},
		{"a password in the URL", user(set("OS_AUTH_URL", "https://u:"+password+"@keystone")), []string{"OS_AUTH_URL"}},
		{"no user", user(set("OS_USERNAME", "")), []string{"OS_USERNAME"}},
		{"two users", user(set("OS_USER_ID", "u1")), []string{"OS_USERNAME"}},
		{"a user without domain", user(set("OS_USER_DOMAIN_NAME", "")), []string{"OS_USER_DOMAIN_NAME"}},
		{"a user with two domains", user(set("OS_USER_DOMAIN_ID", "d1")), []string{"OS_USER_DOMAIN_NAME"}},
		{"no password", user(set("OS_PASSWORD", "")), []string{"OS_PASSWORD"}},
		{"two passwords", user(set("OS_PASSWORD_FILE", empty)), []string{"OS_PASSWORD"}},
		{"an empty password file", user(set("OS_PASSWORD", "", "OS_PASSWORD_FILE", empty)), []string{"OS_PASSWORD_FILE"}},
		{"no password file", user(set("OS_PASSWORD", "", "OS_PASSWORD_FILE", "/nonexistent")), []string{"OS_PASSWORD_FILE"}},
		{"no project", user(set("OS_PROJECT_NAME", "")), []string{"OS_PROJECT_NAME"}},
		{"a project without domain", user(set("OS_PROJECT_DOMAIN_NAME", "")), []string{"OS_PROJECT_DOMAIN_NAME"}},
		{"a project with two domains", user(set("OS_PROJECT_DOMAIN_ID", "d1")), []string{"OS_PROJECT_DOMAIN_NAME"}},
		{"insecure", user(set("OS_INSECURE", "True")), []string{"OS_INSECURE"}},
		{"a token", user(set("OS_AUTH_TYPE", "v3token")), []string{"OS_AUTH_TYPE"}},
		{"an unknown interface", user(set("OS_INTERFACE", "private")), []string{"OS_INTERFACE"}},
		{"no such CA", user(set("OS_CACERT", "/nonexistent")), []string{"OS_CACERT"}},
		{"a CA that is none", user(set("OS_CACERT", empty)), []string{"OS_CACERT"}},
		{"a certificate without key", user(set("OS_CERT", empty)), []string{"OS_KEY"}},
		{"no secret", application(set("OS_APPLICATION_CREDENTIAL_SECRET", "")), []string{"OS_APPLICATION_CREDENTIAL_SECRET"}},
		{"a secret of nothing", application(set("OS_APPLICATION_CREDENTIAL_ID", "")), []string{"OS_APPLICATION_CREDENTIAL_ID", "OS_PROJECT_NAME", "OS_USERNAME"}},
		{"two application credentials", application(set("OS_APPLICATION_CREDENTIAL_NAME", "gate")), []string{"OS_APPLICATION_CREDENTIAL_ID"}},
		{"a named one without user", application(set("OS_APPLICATION_CREDENTIAL_ID", "", "OS_APPLICATION_CREDENTIAL_NAME", "gate")), []string{"OS_USERNAME"}},
		{"a password as well", application(set("OS_PASSWORD", password)), []string{"OS_PASSWORD"}},
		{"clouds.yaml without a cloud", environ(set("OS_CLIENT_CONFIG_FILE", empty)), []string{"OS_CLIENT_CONFIG_FILE"}},
	} {
		t.Run(test.name, func(t *testing.T) {
			var got []string
			for _, p := range problems(t, test.env) {
				got = append(got, p.Variable)
				if strings.Contains(p.Text, password) {
					t.Errorf("%s shows the secret: %s", p.Variable, p.Text)
				}
			}
			slices.Sort(got)
			if !slices.Equal(got, test.want) {
				t.Errorf("blamed %q, want %q", got, test.want)
			}
		})
	}
}

const cloudsYAML = `
clouds:
  gate:
    region_name: north
    interface: internal
    auth:
      auth_url: https://keystone:5000/v3
      username: countersign
      user_domain_name: Default
      password: correct-horse-battery-staple
      project_name: service
      project_domain_name: Services
  application:
    auth_type: v3applicationcredential
    auth:
      auth_url: https://keystone:5000/v3
      application_credential_id: abc
      project_id: p1
  by-id:
    auth:
      auth_url: https://keystone:5000/v3
      user_id: u1
      domain_name: Default
      password: correct-horse-battery-staple
      project_id: p1
  no-auth: {region_name: north}
  insecure:
    verify: false
    auth: {auth_url: https://keystone:5000/v3, user_id: u1, password: p, project_id: p1}
  system:
    auth: {auth_url: https://keystone:5000/v3, user_id: u1, password: p, system_scope: all}
  token:
    auth_type: v3token
    auth: {auth_url: https://keystone:5000/v3, token: correct-horse-battery-staple, project_id: p1}
  no-url:
    auth: {user_id: u1, password: p, project_id: p1}
  odd-url:
    auth: {auth_url: "https://u:correct-horse-battery-staple@keystone", user_id: u1, password: p, project_id: p1}
  no-password:
    auth: {auth_url: https://keystone:5000/v3, user_id: u1, project_id: p1}
  no-user:
    auth: {auth_url: https://keystone:5000/v3, password: p, project_id: p1}
  no-user-domain:
    auth: {auth_url: https://keystone:5000/v3, username: u, password: p, project_id: p1}
  no-project:
    auth: {auth_url: https://keystone:5000/v3, user_id: u1, password: p}
  no-project-domain:
    auth: {auth_url: https://keystone:5000/v3, user_id: u1, password: p, project_name: x}
  no-ca:
    cacert: /nonexistent/ca.pem
    auth: {auth_url: https://keystone:5000/v3, user_id: u1, password: p, project_id: p1}
`

func TestServiceFromClouds(t *testing.T) {
	// What the process itself has is nobody's business.
	t.Setenv("OS_CLOUD", "no-auth")
	t.Setenv("OS_REGION_NAME", "elsewhere")
	t.Setenv("OS_INTERFACE", "admin")
	t.Setenv("OS_CLIENT_CONFIG_FILE", "/nonexistent")
	file := write(t, "clouds.yaml", cloudsYAML)
	cloud := func(name string, more ...string) map[string]string {
		e := environ(map[string]string{"OS_CLOUD": name, "OS_CLIENT_CONFIG_FILE": file})
		for i := 0; i < len(more); i += 2 {
			e[more[i]] = more[i+1]
		}
		return e
	}
	gate := gophercloud.AuthOptions{
		IdentityEndpoint: "https://keystone:5000/v3",
		Username:         "countersign",
		DomainName:       "Default",
		Password:         password,
		Scope:            &gophercloud.AuthScope{ProjectName: "service", DomainName: "Services"},
	}
	north := gophercloud.EndpointOpts{Region: "north", Availability: gophercloud.AvailabilityInternal}

	t.Run("password", func(t *testing.T) { service(t, cloud("gate"), gate, north) })
	t.Run("region and interface from the environment", func(t *testing.T) {
		service(t, cloud("gate", "OS_REGION_NAME", "south", "OS_INTERFACE", "public"), gate, gophercloud.EndpointOpts{Region: "south"})
	})
	t.Run("password from a file", func(t *testing.T) {
		other := gate
		other.Password = "another"
		service(t, cloud("gate", "OS_PASSWORD_FILE", write(t, "password", "another\n")), other, north)
	})
	t.Run("application credential, secret from a file", func(t *testing.T) {
		service(t, cloud("application", "OS_APPLICATION_CREDENTIAL_SECRET_FILE", write(t, "secret", password)), gophercloud.AuthOptions{
			IdentityEndpoint:            "https://keystone:5000/v3",
			ApplicationCredentialID:     "abc",
			ApplicationCredentialSecret: password,
		}, gophercloud.EndpointOpts{})
	})
	t.Run("ids", func(t *testing.T) {
		service(t, cloud("by-id"), gophercloud.AuthOptions{
			IdentityEndpoint: "https://keystone:5000/v3",
			UserID:           "u1",
			Password:         password,
			Scope:            &gophercloud.AuthScope{ProjectID: "p1"},
		}, gophercloud.EndpointOpts{})
	})
	t.Run("secure.yaml", func(t *testing.T) {
		dir := t.TempDir()
		for name, content := range map[string]string{
			"clouds.yaml": "clouds: {gate: {auth: {auth_url: https://keystone:5000/v3, user_id: u1, project_id: p1}}}",
			"secure.yaml": "clouds: {gate: {auth: {password: " + password + "}}}",
		} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		service(t, cloud("gate", "OS_CLIENT_CONFIG_FILE", filepath.Join(dir, "clouds.yaml")), gophercloud.AuthOptions{
			IdentityEndpoint: "https://keystone:5000/v3",
			UserID:           "u1",
			Password:         password,
			Scope:            &gophercloud.AuthScope{ProjectID: "p1"},
		}, gophercloud.EndpointOpts{})
	})
	t.Run("where clients look", func(t *testing.T) {
		home := t.TempDir()
		for _, dir := range []string{".config/openstack", "xdg/openstack"} {
			if err := os.MkdirAll(filepath.Join(home, dir), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(home, dir, "clouds.yaml"), []byte(cloudsYAML), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		service(t, cloud("gate", "OS_CLIENT_CONFIG_FILE", "", "HOME", home), gate, north)
		service(t, cloud("gate", "OS_CLIENT_CONFIG_FILE", "", "XDG_CONFIG_HOME", filepath.Join(home, "xdg")), gate, north)
	})

	for _, test := range []struct {
		name     string
		env      map[string]string
		variable string
		want     string
	}{
		{"no such file", cloud("gate", "OS_CLIENT_CONFIG_FILE", "/nonexistent"), "OS_CLIENT_CONFIG_FILE", "no such file"},
		{"no file anywhere", cloud("gate", "OS_CLIENT_CONFIG_FILE", ""), "OS_CLIENT_CONFIG_FILE", "no readable"},
		{"no such cloud", cloud("gates"), "OS_CLOUD", `"gates" not found`},
		{"not YAML", cloud("gate", "OS_CLIENT_CONFIG_FILE", write(t, "clouds.yaml", "clouds: [")), "OS_CLOUD", "yaml"},
		{"a secret in the wrong place", cloud("gate", "OS_CLIENT_CONFIG_FILE", write(t, "clouds.yaml", "clouds: {gate: {auth: se`cret}}")), "OS_CLOUD", "cannot unmarshal !!str a value into"},
		{"no auth", cloud("no-auth"), "OS_CLOUD", "no auth section"},
		{"insecure", cloud("insecure"), "OS_CLOUD", "verify: false"},
		{"system scope", cloud("system"), "OS_CLOUD", "system_scope"},
		{"token", cloud("token"), "OS_CLOUD", "holds a token"},
		{"no URL", cloud("no-url"), "OS_CLOUD", "no auth_url"},
		{"odd URL", cloud("odd-url"), "OS_CLOUD", "user name"},
		{"no password", cloud("no-password"), "OS_CLOUD", "no password"},
		{"no secret", cloud("application"), "OS_CLOUD", "no application_credential_secret"},
		{"no user", cloud("no-user"), "OS_CLOUD", "no username"},
		{"no user domain", cloud("no-user-domain"), "OS_CLOUD", "user_domain_name"},
		{"no project", cloud("no-project"), "OS_CLOUD", "no project_name"},
		{"no project domain", cloud("no-project-domain"), "OS_CLOUD", "project_domain_name"},
		{"no CA", cloud("no-ca"), "OS_CLOUD", "ca.pem"},
		{"half of another user", cloud("gate", "OS_USERNAME", "other"), "OS_USERNAME", "OS_CLOUD too"},
	} {
		t.Run(test.name, func(t *testing.T) {
			got := problems(t, test.env)
			if len(got) != 1 || got[0].Variable != test.variable || !strings.Contains(got[0].Text, test.want) || strings.Contains(got[0].Text, password) {
				t.Errorf("problems %+v, want %s: …%s…", got, test.variable, test.want)
			}
		})
	}
}

// However a Config is printed, the secret is not in it.
func TestMasked(t *testing.T) {
	file := write(t, "clouds.yaml", cloudsYAML)
	for name, env := range map[string]map[string]string{
		"password":               user(nil),
		"application credential": application(nil),
		"clouds.yaml":            environ(map[string]string{"OS_CLOUD": "gate", "OS_CLIENT_CONFIG_FILE": file}),
		"password file":          user(map[string]string{"OS_PASSWORD": "", "OS_PASSWORD_FILE": write(t, "password", password)}),
	} {
		c, err := config.Load(env)
		if err != nil {
			t.Fatal(err)
		}
		service := c.Service
		asJSON, err := json.Marshal(struct{ S config.Service }{service})
		if err != nil {
			t.Fatal(err)
		}
		for _, shown := range []string{
			c.String(), strings.Join(c.Masked(), " "), string(asJSON),
			fmt.Sprintf("%v %+v %#v %s %q", c, c, c, c, c),
			fmt.Sprintf("%v %+v %#v %s", &c, &c, &c, &c),
			fmt.Sprintf("%v %+v %#v %s %q", service, service, service, service, service),
		} {
			if strings.Contains(shown, password) {
				t.Errorf("%s: %s", name, shown)
			}
			if shown == "" {
				t.Errorf("%s: nothing is shown at all", name)
			}
		}
	}
	c, err := config.Load(user(map[string]string{"COUNTERSIGN_LOG_LEVEL": "warn"}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"COUNTERSIGN_LISTEN=:9292", "COUNTERSIGN_LOG_LEVEL=warn", "COUNTERSIGN_GLANCE_URL=http://glance-api:9292", "OS_USERNAME=countersign", "OS_PASSWORD=********"} {
		if !slices.Contains(c.Masked(), want) {
			t.Errorf("Masked() = %q misses %s", c.Masked(), want)
		}
	}
	if got, want := c.Service.String(), "countersign at https://keystone:5000/v3"; got != want {
		t.Errorf("Service is %q, want %q", got, want)
	}
}
