package config

import (
	"slices"

	"github.com/gophercloud/gophercloud/v2"
)

// Client returns the credential of the person who runs a command: OS_* or
// clouds.yaml as for the service, and also a token in OS_TOKEN, with
// OS_AUTH_TYPE token or without a password beside it. The error is an *Error
// that lists everything that is wrong, or that there is no credential.
func Client(environ map[string]string) (Service, error) {
	var faults Error
	if environ == nil {
		environ = map[string]string{} // nil would make env read the process's own
	}
	var o openstack
	parse(&o, osPrefix, environ, &faults)
	token := environ[osPrefix+"TOKEN"]

	var s Service
	switch tokenAsked := slices.Contains([]string{"token", "v3token"}, o.AuthType); {
	default:
		s = o.service(environ, &faults)
	case tokenAsked && o.Cloud != "":
		faults.add("OS_AUTH_TYPE", "asks for a token, and OS_CLOUD is set too; expected one of them")
	case tokenAsked && token == "":
		faults.add("OS_TOKEN", "is not set, but OS_AUTH_TYPE asks for it; expected what `openstack token issue` prints as id")
	case tokenAsked, token != "" && o.AuthType == "" && o.Cloud == "" && !o.hasSecret():
		s = o.fromToken(environ, token, &faults)
	}
	if len(faults.Problems) == 0 && !s.Configured {
		faults.add("OS_AUTH_URL", "is not set, nor is OS_CLOUD; expected the credential that the openstack client uses too (source an openrc file, or name an entry of clouds.yaml in OS_CLOUD)")
	}
	if len(faults.Problems) > 0 {
		return Service{}, &faults
	}
	return s, nil
}

func (o *openstack) hasSecret() bool {
	return o.Password+o.PasswordFile+o.AppSecret+o.AppSecretFile != ""
}

// fromToken takes the token as it is: its project is the one it was issued
// for, whatever else is set, because rescoping is often forbidden. It cannot
// be renewed.
func (o *openstack) fromToken(environ map[string]string, token string, faults *Error) Service {
	// An application credential stands in for the token while address, TLS
	// and interface are judged: it, too, says all of who somebody is.
	standIn := openstack{
		AppID: "token", AppSecret: token,
		AuthURL: o.AuthURL, Region: o.Region, Interface: o.Interface, Insecure: o.Insecure,
		CACert: o.CACert, Cert: o.Cert, Key: o.Key,
	}
	s := standIn.service(environ, faults)
	s.AuthOptions = gophercloud.AuthOptions{IdentityEndpoint: s.AuthOptions.IdentityEndpoint, TokenID: token}
	return s
}
