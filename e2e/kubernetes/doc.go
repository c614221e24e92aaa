// Package kubernetes is the chart's life on a real cluster, told as a scenario:
// `make e2e-kubernetes`.
package kubernetes
