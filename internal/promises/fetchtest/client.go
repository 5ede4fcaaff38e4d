package fetchtest

import (
	"context"
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
