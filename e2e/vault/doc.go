// Package vault holds certcache to a real Vault, and to the real castellan. The server is a module of its own, because what
// it is made of is no dependency of Countersign.
//
//	make e2e-vault
package vault
