package config

import (
	"crypto/tls"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"

	"github.com/gophercloud/gophercloud/v2"
	"github.com/gophercloud/gophercloud/v2/openstack/config/clouds"
)

// osPrefix begins what OpenStack's own clients read too. Of these only the
// ones below are looked at; others, such as OS_IMAGE_API_VERSION, may be set.
const osPrefix = "OS_"

// mask stands where a secret would.
const mask = "********"

// Service is the credential of our own: it validates tokens, resolves project
// names and takes away what a caller's token no longer can.
type Service struct {
	// Configured is false if no credential is given. Serving starts all
	// the same; uploads that a rule enforces are then answered 503.
	Configured bool
	// AuthOptions ask for tokens that gophercloud may renew (AllowReauth).
	AuthOptions gophercloud.AuthOptions
	// EndpointOpts say which region and interface to take from the catalog.
	EndpointOpts gophercloud.EndpointOpts
	// TLS is for Keystone and what its catalog names; never nil if Configured.
	TLS *tls.Config
}

// String tells who the service is and keeps the password to itself.
func (s Service) String() string {
	if !s.Configured {
		return "no service credential"
	}
	a := s.AuthOptions
	who := a.Username + a.UserID
	if id := a.ApplicationCredentialID + a.ApplicationCredentialName; id != "" {
		who = "application credential " + id
	}
	return fmt.Sprintf("%s at %s", who, a.IdentityEndpoint)
}

// GoString is String, so that %#v shows no secret either.
func (s Service) GoString() string { return s.String() }

// MarshalText is String, so that JSON shows no secret either.
func (s Service) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// openstack is how the credential is written in the environment.
type openstack struct {
	Cloud  string `env:"CLOUD" help:"Entry of clouds.yaml with the service credential, instead of the variables below."`
	Config string `env:"CLIENT_CONFIG_FILE" help:"Where clouds.yaml is. Default: ./, ~/.config/openstack/, /etc/openstack/."`

	AuthURL           string `env:"AUTH_URL" help:"Keystone, such as https://keystone:5000/v3."`
	Username          string `env:"USERNAME" help:"The service user's name; wants a domain."`
	UserID            string `env:"USER_ID" help:"The service user's id, instead of name and domain."`
	Password          string `env:"PASSWORD" secret:"true" help:"The service user's password."`
	PasswordFile      string `env:"PASSWORD_FILE" help:"File with the password, instead."`
	UserDomainName    string `env:"USER_DOMAIN_NAME" help:"Domain of the user, by name."`
	UserDomainID      string `env:"USER_DOMAIN_ID" help:"Domain of the user, by id."`
	ProjectName       string `env:"PROJECT_NAME" help:"The service user's project; wants a domain."`
	ProjectID         string `env:"PROJECT_ID" help:"The project's id, instead of name and domain."`
	ProjectDomainName string `env:"PROJECT_DOMAIN_NAME" help:"Domain of the project, by name."`
	ProjectDomainID   string `env:"PROJECT_DOMAIN_ID" help:"Domain of the project, by id."`

	AppID         string `env:"APPLICATION_CREDENTIAL_ID" help:"Application credential, instead of user, password and project."`
	AppName       string `env:"APPLICATION_CREDENTIAL_NAME" help:"Application credential by name; wants the user as well."`
	AppSecret     string `env:"APPLICATION_CREDENTIAL_SECRET" secret:"true" help:"The application credential's secret."`
	AppSecretFile string `env:"APPLICATION_CREDENTIAL_SECRET_FILE" help:"File with the secret, instead."`

	CACert    string `env:"CACERT" help:"PEM certificates that may have issued those of Keystone and the services in its catalog. Default: the system's."`
	Cert      string `env:"CERT" help:"PEM certificate shown to them."`
	Key       string `env:"KEY" help:"PEM private key for it."`
	Region    string `env:"REGION_NAME" help:"Region in the catalog. Default: the only one there is."`
	Interface string `env:"INTERFACE" help:"Interface in the catalog: public, internal or admin. Default: public."`

	Insecure string `env:"INSECURE" help:"Refused if true: give OS_CACERT."`
	AuthType string `env:"AUTH_TYPE" help:"May be password or v3applicationcredential (v3password is the same as password); others are refused."`
}

// service judges the credential as a whole.
func (o *openstack) service(environ map[string]string, faults *Error) Service {
	before := len(faults.Problems)
	if insecure := strings.ToLower(o.Insecure); insecure != "" && insecure != "0" && insecure != "false" && insecure != "no" {
		faults.add("OS_INSECURE", "is refused: who can stand between us and Keystone decides what is trusted; give the issuer in OS_CACERT instead")
	}
	if o.AuthType != "" {
		oneOf("OS_AUTH_TYPE", o.AuthType, faults, "password", "v3password", "v3applicationcredential")
	}
	availability := gophercloud.AvailabilityPublic
	switch strings.TrimSuffix(o.Interface, "URL") {
	default:
		faults.add("OS_INTERFACE", "%q is not known; expected public, internal or admin", o.Interface)
	case "", "public":
	case "internal":
		availability = gophercloud.AvailabilityInternal
	case "admin":
		availability = gophercloud.AvailabilityAdmin
	}
	password := secretOf("OS_PASSWORD", o.Password, o.PasswordFile, faults)
	appSecret := secretOf("OS_APPLICATION_CREDENTIAL_SECRET", o.AppSecret, o.AppSecretFile, faults)

	var s Service
	switch {
	case o.Cloud != "":
		s = o.fromCloud(environ, password, appSecret, faults)
	case o.AuthURL+o.Username+o.UserID+o.Password+o.PasswordFile+o.AppID+o.AppName+o.AppSecret+o.AppSecretFile != "":
		s = o.fromVariables(password, appSecret, availability, faults)
	case o.Config != "":
		faults.add("OS_CLIENT_CONFIG_FILE", "is set, but OS_CLOUD is not; expected the name of an entry there in OS_CLOUD")
	}
	if len(faults.Problems) > before || (o.Cloud == "" && s.AuthOptions.IdentityEndpoint == "") {
		return Service{}
	}
	s.Configured = true
	s.AuthOptions.AllowReauth = true
	s.TLS.MinVersion = tls.VersionTLS12
	return s
}

// secretOf takes the secret from its variable or the file beside it, without
// the newline editors leave there.
func secretOf(variable, value, file string, faults *Error) string {
	if file == "" {
		return value
	}
	if value != "" {
		faults.add(variable, "is set, and %s_FILE too; expected one of them", variable)
		return ""
	}
	data, err := os.ReadFile(file)
	if err != nil {
		faults.add(variable+"_FILE", "cannot be read: %v", err)
		return ""
	}
	secret := strings.TrimRight(string(data), "\r\n")
	if secret == "" {
		faults.add(variable+"_FILE", "%s is empty", file)
	}
	return secret
}

func (o *openstack) fromVariables(password, appSecret string, availability gophercloud.Availability, faults *Error) Service {
	s := Service{
		AuthOptions: gophercloud.AuthOptions{
			IdentityEndpoint:            o.AuthURL,
			Username:                    o.Username,
			UserID:                      o.UserID,
			Password:                    password,
			DomainName:                  o.UserDomainName,
			DomainID:                    o.UserDomainID,
			ApplicationCredentialID:     o.AppID,
			ApplicationCredentialName:   o.AppName,
			ApplicationCredentialSecret: appSecret,
		},
		EndpointOpts: gophercloud.EndpointOpts{Region: o.Region, Availability: availability},
		TLS:          &tls.Config{},
	}
	if o.CACert != "" {
		s.TLS.RootCAs = loadRoots("OS_CACERT", o.CACert, faults)
	}
	if pair := loadPair("OS_CERT", o.Cert, "OS_KEY", o.Key, faults); pair != nil {
		s.TLS.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair.current(), nil }
	}

	application := o.AppID != "" || o.AppName != ""
	if o.AuthURL == "" {
		faults.add("OS_AUTH_URL", "is not set, but other parts of the service credential are; expected where Keystone is, such as https://keystone:5000/v3")
	} else if _, err := parseURL(o.AuthURL); err != nil {
		faults.add("OS_AUTH_URL", "%v", err)
	}
	exclusive := func(a, aValue, b, bValue string) {
		if aValue != "" && bValue != "" {
			faults.add(a, "is set, and %s too; expected one of them", b)
		}
	}
	exclusive("OS_USERNAME", o.Username, "OS_USER_ID", o.UserID)
	exclusive("OS_USER_DOMAIN_NAME", o.UserDomainName, "OS_USER_DOMAIN_ID", o.UserDomainID)
	exclusive("OS_APPLICATION_CREDENTIAL_ID", o.AppID, "OS_APPLICATION_CREDENTIAL_NAME", o.AppName)
	if !application {
		exclusive("OS_PROJECT_DOMAIN_NAME", o.ProjectDomainName, "OS_PROJECT_DOMAIN_ID", o.ProjectDomainID)
	}

	switch {
	case application && appSecret == "" && o.AppSecretFile == "":
		faults.add("OS_APPLICATION_CREDENTIAL_SECRET", "is not set, but an application credential is named; expected its secret here or in OS_APPLICATION_CREDENTIAL_SECRET_FILE")
	case application && password != "":
		faults.add("OS_PASSWORD", "is set, and an application credential too; expected one of them")
	case !application && appSecret != "":
		faults.add("OS_APPLICATION_CREDENTIAL_ID", "is not set, but the application credential's secret is; expected which credential it belongs to")
	case !application && password == "" && o.PasswordFile == "":
		faults.add("OS_PASSWORD", "is not set; expected the service user's password here or in OS_PASSWORD_FILE, or an application credential")
	}
	// An application credential's id says all; its name says it of one user.
	if o.AppID == "" {
		if o.Username == "" && o.UserID == "" {
			faults.add("OS_USERNAME", "is not set; expected the service user's name here or its id in OS_USER_ID")
		}
		if o.Username != "" && o.UserDomainName == "" && o.UserDomainID == "" {
			faults.add("OS_USER_DOMAIN_NAME", "is not set; a user's name wants its domain here or in OS_USER_DOMAIN_ID")
		}
	}
	if o.UserID != "" || o.AppID != "" {
		// gophercloud refuses a domain beside an id, openrc files have both.
		s.AuthOptions.DomainName, s.AuthOptions.DomainID = "", ""
	}
	if application {
		return s // it carries its project; Keystone refuses to be told one
	}
	switch {
	default:
		faults.add("OS_PROJECT_NAME", "is not set; expected the service user's project here or its id in OS_PROJECT_ID")
	case o.ProjectID != "": // an openrc file names the project as well
		s.AuthOptions.Scope = &gophercloud.AuthScope{ProjectID: o.ProjectID}
	case o.ProjectName != "" && o.ProjectDomainName == "" && o.ProjectDomainID == "":
		faults.add("OS_PROJECT_DOMAIN_NAME", "is not set; a project's name wants its domain here or in OS_PROJECT_DOMAIN_ID")
	case o.ProjectName != "":
		s.AuthOptions.Scope = &gophercloud.AuthScope{
			ProjectName: o.ProjectName,
			DomainName:  o.ProjectDomainName,
			DomainID:    o.ProjectDomainID,
		}
	}
	return s
}

// fromCloud reads clouds.yaml. Secrets, TLS files, region and interface may
// come from the environment beside it; who we are may not, for it would be
// half one user and half another.
func (o *openstack) fromCloud(environ map[string]string, password, appSecret string, faults *Error) Service {
	for variable, value := range map[string]string{
		"OS_AUTH_URL": o.AuthURL, "OS_USERNAME": o.Username, "OS_USER_ID": o.UserID,
		"OS_PROJECT_NAME": o.ProjectName, "OS_PROJECT_ID": o.ProjectID,
		"OS_APPLICATION_CREDENTIAL_ID": o.AppID, "OS_APPLICATION_CREDENTIAL_NAME": o.AppName,
	} {
		if value != "" {
			faults.add(variable, "is set, and OS_CLOUD too; expected one of them")
		}
	}
	file, err := o.cloudsFile(environ)
	if err != nil {
		faults.add("OS_CLIENT_CONFIG_FILE", "%v", err)
		return Service{}
	}
	s, err := parseCloud(
		clouds.WithCloudName(o.Cloud),
		clouds.WithLocations(file),
		clouds.WithPublicLocations(filepath.Join(filepath.Dir(file), "clouds-public.yaml")),
		clouds.WithRegion(o.Region),
		clouds.WithEndpointType(o.Interface),
		clouds.WithPassword(password),
		clouds.WithApplicationCredentialSecret(appSecret),
		clouds.WithCACertPath(o.CACert),
		clouds.WithClientCertPath(o.Cert),
		clouds.WithClientKeyPath(o.Key),
	)
	if err != nil {
		// YAML's errors quote values, and a misplaced one may be a secret.
		faults.add("OS_CLOUD", "%s: %s", file, quoted.ReplaceAllString(err.Error(), "a value"))
		return Service{}
	}
	a := &s.AuthOptions
	application := a.ApplicationCredentialID != "" || a.ApplicationCredentialName != ""
	_, urlErr := parseURL(a.IdentityEndpoint)
	in := fmt.Sprintf("entry %q of %s", o.Cloud, file)
	switch {
	case s.TLS.InsecureSkipVerify:
		faults.add("OS_CLOUD", "%s says verify: false, which is refused; give the issuer as cacert", in)
	case a.TokenID != "":
		faults.add("OS_CLOUD", "%s holds a token, which cannot be renewed; expected a password or an application credential", in)
	case a.IdentityEndpoint == "":
		faults.add("OS_CLOUD", "%s has no auth_url", in)
	case urlErr != nil:
		faults.add("OS_CLOUD", "auth_url in %s %v", in, urlErr)
	case application && a.ApplicationCredentialSecret == "":
		faults.add("OS_CLOUD", "%s has no application_credential_secret; expected it there, in secure.yaml or in OS_APPLICATION_CREDENTIAL_SECRET_FILE", in)
	case !application && a.Password == "":
		faults.add("OS_CLOUD", "%s has no password; expected it there, in secure.yaml or in OS_PASSWORD_FILE", in)
	case a.ApplicationCredentialID == "" && a.Username == "" && a.UserID == "":
		faults.add("OS_CLOUD", "%s has no username", in)
	case a.ApplicationCredentialID == "" && a.Username != "" && a.DomainName == "" && a.DomainID == "":
		faults.add("OS_CLOUD", "%s has a username without user_domain_name", in)
	case a.Scope != nil && a.Scope.System:
		faults.add("OS_CLOUD", "%s says system_scope, and Glance answers 404 to whatever comes with such a token; expected a project_name", in)
	case !application && a.Scope == nil:
		faults.add("OS_CLOUD", "%s has no project_name", in)
	case !application && a.Scope.ProjectName != "" && a.Scope.DomainName == "" && a.Scope.DomainID == "":
		faults.add("OS_CLOUD", "%s has a project_name without project_domain_name", in)
	}
	if a.UserID != "" || a.ApplicationCredentialID != "" {
		a.DomainName, a.DomainID = "", ""
	}
	if application {
		a.Scope = nil
	}
	a.TenantID, a.TenantName = "", "" // Scope says it, with its domain
	return s
}

var quoted = regexp.MustCompile("`.*`")

// parseCloud keeps a cloud without an auth section from ending the process:
// gophercloud follows that nil pointer.
func parseCloud(options ...clouds.ParseOption) (s Service, err error) {
	defer func() {
		if recover() != nil {
			err = fmt.Errorf("the entry has no auth section")
		}
	}()
	s.AuthOptions, s.EndpointOpts, s.TLS, err = clouds.Parse(options...)
	return s, err
}

// cloudsFile is the first clouds.yaml where OpenStack's clients look.
func (o *openstack) cloudsFile(environ map[string]string) (string, error) {
	if o.Config != "" {
		if err := readable(o.Config); err != nil {
			return "", fmt.Errorf("cannot be read: %w", err)
		}
		return o.Config, nil
	}
	user := environ["XDG_CONFIG_HOME"]
	if user == "" {
		user = filepath.Join(environ["HOME"], ".config")
	}
	places := []string{"clouds.yaml", filepath.Join(user, "openstack", "clouds.yaml"), "/etc/openstack/clouds.yaml"}
	for _, place := range places {
		if readable(place) == nil {
			return place, nil
		}
	}
	return "", fmt.Errorf("is not set, and there is no readable %s", alternatives(places))
}
