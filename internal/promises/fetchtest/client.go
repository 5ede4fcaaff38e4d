package fetchtest

import (
	"context"
	"errors"
	"reflect"
)

// Exported returns the exported fields of a struct, functions as their addresses.
func Exported(v any) map[string]any {
	fields := map[string]any{}
	value := reflect.ValueOf(v).Elem()
	for i := range value.NumField() {
		field := value.Type().Field(i)
		switch {
		case !field.IsExported():
		case field.Type.Kind() == reflect.Func:
			fields[field.Name] = value.Field(i).Pointer()
		default:
			fields[field.Name] = value.Field(i).Interface()
		}
	}
	return fields
}

// A LimiterFunc is a Limiter.
type LimiterFunc func(context.Context) error

// Wait calls f.
func (f LimiterFunc) Wait(ctx context.Context) error { return f(ctx) }

// A HostLimiterFunc is a HostLimiter that must only be told hosts.
type HostLimiterFunc func(ctx context.Context, host string) error

// Wait fails.
func (f HostLimiterFunc) Wait(context.Context) error { return errors.New("no host was told") }

// WaitHost calls f.
func (f HostLimiterFunc) WaitHost(ctx context.Context, host string) error { return f(ctx, host) }
