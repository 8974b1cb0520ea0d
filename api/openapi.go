package api

import (
	"encoding/json"
	"errors"
	"net/http"

	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/reflect/protoregistry"
	"google.golang.org/protobuf/types/descriptorpb"

	"github.com/clearward/clearward/api/auth"
	errorv1 "github.com/clearward/clearward/proto/clearward/error/v1"
)

// openAPIPath is where the description of the calls is read.
const openAPIPath = "/openapi.json"

// object is a part of an OpenAPI document.
type object = map[string]any

// openAPI describes every call that the table of rights names as OpenAPI 3.1, for
// programs that call with plain JSON. Calls that answer with a stream need a client
// of Connect or gRPC and are not in it.
func openAPI() ([]byte, error) {
	paths, schemas := object{}, object{}
	protoregistry.GlobalFiles.RangeFiles(func(file protoreflect.FileDescriptor) bool {
		for i := range file.Services().Len() {
			service := file.Services().Get(i)
			for j := range service.Methods().Len() {
				describeCall(service.Methods().Get(j), paths, schemas)
			}
		}
		return true
	})
	describeMessage((&errorv1.Refusal{}).ProtoReflect().Descriptor(), schemas)
	schemas["Error"] = object{"type": "object", "properties": object{
		"code": object{"type": "string"}, "message": object{"type": "string"},
		"details": object{"type": "array", "items": object{"type": "object", "properties": object{
			"type": object{"type": "string"}, "value": object{"type": "string", "contentEncoding": "base64"}, "debug": ref("clearward.error.v1.Refusal"),
		}}},
	}}
	return json.MarshalIndent(object{
		"openapi": "3.1.0",
		"info": object{"title": "Clearward", "version": "1", "description": "Amounts are whole fen, written as strings like every 64-bit number. " +
			"Days are business days in Beijing, 2026-09-15. Times are UTC."},
		"paths": paths,
		"components": object{"schemas": schemas, "securitySchemes": object{
			"key": object{"type": "http", "scheme": "bearer", "description": "The key of a person, ck_…"},
			"signature": object{"type": "apiKey", "in": "header", "name": "Authorization",
				"description": "What a program sends: its signature over method, path, time, nonce and body; api/sdk makes it"},
		}},
		"security": []object{{"key": []string{}}, {"signature": []string{}}},
	}, "", "  ")
}

// describeCall adds a call that the table of rights names, and its messages.
func describeCall(m protoreflect.MethodDescriptor, paths, schemas object) {
	name := "/" + string(m.Parent().FullName()) + "/" + string(m.Name())
	right, ours := procedures[name]
	if !ours || m.IsStreamingClient() || m.IsStreamingServer() {
		return
	}
	content := func(of protoreflect.MessageDescriptor) object {
		describeMessage(of, schemas)
		return object{"application/json": object{"schema": ref(of.FullName())}}
	}
	call := object{
		"operationId": string(m.Parent().Name()) + "." + string(m.Name()),
		"tags":        []string{string(m.Parent().Name())},
		"summary":     "Needs the right " + string(right) + ".",
		"requestBody": object{"required": true, "content": content(m.Input())},
		"responses": object{
			"200":     object{"description": "The answer.", "content": content(m.Output())},
			"default": object{"description": "Refused or failed, and why.", "content": object{"application/json": object{"schema": ref("Error")}}},
		},
	}
	if options, ok := m.Options().(*descriptorpb.MethodOptions); ok {
		call["x-idempotency-level"] = options.GetIdempotencyLevel().String()
	}
	paths[name] = object{"post": call}
}

func ref(name protoreflect.FullName) object {
	return object{"$ref": "#/components/schemas/" + string(name)}
}

// describeMessage adds a message and those inside it.
func describeMessage(m protoreflect.MessageDescriptor, schemas object) {
	if _, known := schemas[string(m.FullName())]; known {
		return
	}
	fields := object{}
	schema := object{"type": "object", "properties": fields}
	schemas[string(m.FullName())] = schema
	for i := range m.Fields().Len() {
		f := m.Fields().Get(i)
		if f.Name() == keyField {
			schema["required"] = []string{f.JSONName()}
		}
		switch {
		case f.IsMap():
			fields[f.JSONName()] = object{"type": "object", "additionalProperties": valueSchema(f.MapValue(), schemas)}
		case f.IsList():
			fields[f.JSONName()] = object{"type": "array", "items": valueSchema(f, schemas)}
		default:
			fields[f.JSONName()] = valueSchema(f, schemas)
		}
	}
}

// valueSchema is how one value is written in JSON.
func valueSchema(f protoreflect.FieldDescriptor, schemas object) object {
	switch f.Kind() {
	case protoreflect.BoolKind:
		return object{"type": "boolean"}
	case protoreflect.StringKind:
		return object{"type": "string"}
	case protoreflect.BytesKind:
		return object{"type": "string", "contentEncoding": "base64"}
	case protoreflect.Int64Kind, protoreflect.Sint64Kind, protoreflect.Sfixed64Kind:
		return object{"type": "string", "format": "int64"}
	case protoreflect.Uint64Kind, protoreflect.Fixed64Kind:
		return object{"type": "string", "format": "uint64"}
	case protoreflect.FloatKind, protoreflect.DoubleKind:
		return object{"type": "number"}
	case protoreflect.EnumKind:
		names := make([]string, f.Enum().Values().Len())
		for i := range names {
			names[i] = string(f.Enum().Values().Get(i).Name())
		}
		return object{"type": "string", "enum": names}
	case protoreflect.MessageKind, protoreflect.GroupKind:
		if f.Message().FullName() == "google.protobuf.Timestamp" {
			return object{"type": "string", "format": "date-time"}
		}
		describeMessage(f.Message(), schemas)
		return ref(f.Message().FullName())
	}
	return object{"type": "integer"}
}

// describe hands the description to whoever may read which calls there are.
func (d doorkeeper) describe(w http.ResponseWriter, r *http.Request) {
	if err := d.enter(r.Context(), openAPIPath); err != nil {
		status := http.StatusUnauthorized
		if errors.Is(err, auth.ErrDenied) {
			status = http.StatusForbidden
		}
		http.Error(w, err.Error(), status)
		return
	}
	text, err := openAPI()
	if err != nil {
		d.s.log.Error("describe the calls", "error", err)
		http.Error(w, "the calls cannot be described", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(text) // whoever asked has gone
}
