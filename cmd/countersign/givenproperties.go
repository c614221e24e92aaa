package main

import (
	"fmt"
	"io"
	"maps"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"github.com/countersign/countersign/signature"
)

// givenProperties are the properties of an image as flags give them.
type givenProperties struct {
	file string
	each []string // name=value
}

// register adds the flags --property and --properties.
func (g *givenProperties) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringArrayVar(&g.each, "property", nil, "a `property` of the image, name=value; may be repeated")
	flags.StringVar(&g.file, "properties", "", `JSON `+"`file`"+` with the image's properties, as "openstack image show -f json" prints it; "-" is standard input`)
	for _, err := range []error{
		cmd.MarkFlagFilename("properties", "json"),
		cmd.RegisterFlagCompletionFunc("property", completeProperty),
	} {
		if err != nil {
			panic("properties: " + err.Error()) // a flag above is misspelt
		}
	}
}

// completeProperty offers names, and values where there are few.
func completeProperty(*cobra.Command, []string, string) ([]cobra.Completion, cobra.ShellCompDirective) {
	list := []cobra.Completion{signature.PropertySignature + "=", signature.PropertyCertificate + "="}
	for _, method := range signature.HashMethods {
		list = append(list, signature.PropertyHashMethod+"="+string(method))
	}
	for _, keyType := range signature.KeyTypes {
		list = append(list, signature.PropertyKeyType+"="+string(keyType))
	}
	return list, cobra.ShellCompDirectiveNoFileComp | cobra.ShellCompDirectiveNoSpace
}

// none reports whether nothing is given.
func (g *givenProperties) none() bool { return g.file == "" && len(g.each) == 0 }

// read puts file and flags together. They may complete, not contradict,
// each other.
func (g *givenProperties) read(cmd *cobra.Command) (map[string]string, error) {
	all := make(map[string]string)
	if g.file != "" {
		data, err := readFile(cmd, g.file)
		if err != nil {
			return nil, err
		}
		found, err := readProperties(data)
		if err != nil {
			return nil, fmt.Errorf("%s %w", g.file, err)
		}
		maps.Copy(all, found)
	}
	for _, property := range g.each {
		name, value, hasValue := strings.Cut(property, "=")
		if !hasValue || name == "" {
			return nil, fmt.Errorf("--property %q is not name=value", property)
		}
		if before, twice := all[name]; twice && before != value {
			return nil, fmt.Errorf("property %s is given twice, with different values", name)
		}
		all[name] = value
	}
	return all, nil
}

// readFile is os.ReadFile for which "-" is standard input.
func readFile(cmd *cobra.Command, name string) ([]byte, error) {
	if name == "-" {
		return io.ReadAll(cmd.InOrStdin())
	}
	return os.ReadFile(name)
}
