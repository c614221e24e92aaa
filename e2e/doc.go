// Package e2e plays scenarios against a real Keystone, Barbican and Glance,
// Glance under eventlet and under uWSGI, with the countersign binary between.
//
// It promises that what a scenario's name says was seen to happen, with
// Glance's own word on the image afterwards. It trusts the stack that
// stack/stack brought up. It refuses to run without one: a missing stack is a
// failure, not a skip.
//
//	e2e/stack/stack up
//	go test -tags e2e ./e2e
//
// The scenarios are in files with the build tag e2e.
package e2e
