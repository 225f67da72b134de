// Command proto makes Go of the .proto files of a directory. What they import of Envoy's API
// it finds in the Go modules of that, which is why it needs no protoc.
package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/bufbuild/protocompile"
	"github.com/bufbuild/protocompile/linker"
	"github.com/bufbuild/protocompile/protoutil"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/accesslog/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/core/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/ratelimit/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/route/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/config/trace/v3"
	_ "github.com/envoyproxy/go-control-plane/envoy/type/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

// where is what files of the directory are called by each other.
const where = "dubway/metaprotocol/"

// into is the Go package that they become.
const into = "github.com/dubway/dubway/l7proxy/xds/metaprotocol"

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: proto DIR")
		os.Exit(2)
	}
	if err := generate(os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "proto:", err)
		os.Exit(1)
	}
}

func generate(dir string) error {
	paths, err := filepath.Glob(filepath.Join(dir, "*.proto"))
	if err != nil {
		return err
	}
	request := new(pluginpb.CodeGeneratorRequest)
	sources := make(map[string]string)
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name := where + filepath.Base(path)
		sources[name] = string(text)
		request.FileToGenerate = append(request.FileToGenerate, name)
	}
	compiler := protocompile.Compiler{
		Resolver: protocompile.CompositeResolver{
			&protocompile.SourceResolver{Accessor: protocompile.SourceAccessorFromMap(sources)},
			protocompile.ResolverFunc(linkedIn),
		},
		SourceInfoMode: protocompile.SourceInfoStandard,
	}
	files, err := compiler.Compile(context.Background(), request.GetFileToGenerate()...)
	if err != nil {
		return err
	}
	seen := make(map[string]bool)
	for _, f := range files {
		add(request, f, seen)
	}
	parameters := []string{"paths=source_relative"}
	for _, name := range request.GetFileToGenerate() {
		parameters = append(parameters, "M"+name+"="+into)
	}
	request.Parameter = proto.String(strings.Join(parameters, ","))
	return plugin(dir, request)
}

// linkedIn finds a file among those of the modules that are linked in.
func linkedIn(name string) (protocompile.SearchResult, error) {
	f, err := protoregistry.GlobalFiles.FindFileByPath(name)
	if err != nil {
		return protocompile.SearchResult{}, err
	}
	return protocompile.SearchResult{Desc: f}, nil
}

// add adds a file behind those that it imports.
func add(request *pluginpb.CodeGeneratorRequest, f protoreflect.FileDescriptor, seen map[string]bool) {
	if seen[f.Path()] {
		return
	}
	seen[f.Path()] = true
	for i := range f.Imports().Len() {
		add(request, f.Imports().Get(i).FileDescriptor, seen)
	}
	var d *descriptorpb.FileDescriptorProto
	if own, ok := f.(linker.Result); ok {
		d = protoutil.ProtoFromFileDescriptor(own)
	} else {
		d = protodesc.ToFileDescriptorProto(f)
	}
	request.ProtoFile = append(request.ProtoFile, d)
}

// plugin has the compiler's plugin for Go write the files.
func plugin(dir string, request *pluginpb.CodeGeneratorRequest) error {
	in, err := proto.Marshal(request)
	if err != nil {
		return err
	}
	var out bytes.Buffer
	c := exec.Command("go", "tool", "protoc-gen-go")
	c.Stdin, c.Stdout, c.Stderr = bytes.NewReader(in), &out, os.Stderr
	if err := c.Run(); err != nil {
		return err
	}
	response := new(pluginpb.CodeGeneratorResponse)
	if err := proto.Unmarshal(out.Bytes(), response); err != nil {
		return err
	}
	if response.GetError() != "" {
		return fmt.Errorf("protoc-gen-go: %s", response.GetError())
	}
	slices.SortFunc(response.File, func(a, b *pluginpb.CodeGeneratorResponse_File) int { return strings.Compare(a.GetName(), b.GetName()) })
	for _, f := range response.GetFile() {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(f.GetName())), []byte(f.GetContent()), 0o644); err != nil {
			return err
		}
	}
	return nil
}
