package main

import (
	"sync/atomic"
	"testing"
	"testing/synctest"
)

func TestGateOpensForTheLastAndNotBefore(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		if !g.pass() {
			t.Error("the zero gate is not open")
		}
		g.expect(3)
		var passed atomic.Int32
		for range 2 {
			go func() {
				if g.pass() {
					passed.Add(1)
				}
			}()
		}
		synctest.Wait()
		if n := passed.Load(); n != 0 {
			t.Errorf("%d of 2 passed before the third had come", n)
		}
		if !g.pass() {
			t.Error("the last did not pass")
		}
		synctest.Wait()
		if n := passed.Load(); n != 2 {
			t.Errorf("%d of 2 passed", n)
		}
		if !g.pass() {
			t.Error("closed again for who comes late")
		}
	})
}

func TestGateGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var g gate
		g.expect(2)
		if g.pass() {
			t.Error("passed alone")
		}
	})
}
