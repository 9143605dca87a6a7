package rescue

import (
	"context"
	"os"
	"testing"
)

func TestZZSpeed(t *testing.T) {
	if os.Getenv("ARCHIVE") == "" {
		t.Skip()
	}
	l := labAt(t, os.Getenv("DEST"))
	f, _ := os.Open(os.Getenv("ARCHIVE"))
	c, err := l.q.Unpack(context.Background(), 1, f, roomy, nil)
	if err != nil || c.Files != 100000 {
		t.Fatal(c, err)
	}
}
