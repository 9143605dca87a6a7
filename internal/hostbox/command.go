package hostbox

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Command prepares a command that runs inside the box as root, in the directory "/", with a clean environment that the
// caller may add to. When ctx ends, the command itself is killed, not only its messenger.
func (b *Box) Command(ctx context.Context, name string, args ...string) *exec.Cmd {
	return b.enter(ctx, append([]string{name}, args...))
}

// CommandAs prepares a command that runs inside the box as the named user, with that user's groups.
func (b *Box) CommandAs(ctx context.Context, user, name string, args ...string) *exec.Cmd {
	uid, gid, home := b.world.identity(user)
	cmd := b.enter(ctx, append([]string{
		"setpriv", "--reuid=" + uid, "--regid=" + gid, "--init-groups", "--inh-caps=-all", name,
	}, args...))
	cmd.Env = append(cmd.Env, "HOME="+home, "USER="+user, "LOGNAME="+user)
	return cmd
}

func (b *Box) enter(ctx context.Context, argv []string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, lookPath("nsenter"), append([]string{
		"--target=" + strconv.Itoa(b.pid), "--mount", "--uts", "--ipc", "--net", "--pid", "--root", "--",
	}, argv...)...)
	cmd.Env = boxEnv()
	cmd.Cancel = func() error { return Signal(cmd, unix.SIGKILL) }
	cmd.WaitDelay = 5 * time.Second
	return cmd
}

// boxEnv is the environment of everything in the box.
func boxEnv() []string {
	env := []string{
		"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "USER=root", "LOGNAME=root",
		"LANG=C.UTF-8", "SHELL=/bin/bash",
	}
	for _, k := range []string{"TERM", "NO_COLOR", "COLORTERM"} {
		if v, ok := os.LookupEnv(k); ok {
			env = append(env, k+"="+v)
		}
	}
	return env
}

// Signal sends sig to the command that a started [Box.Command] runs. Signalling the exec.Cmd itself would reach only
// the messenger (nsenter), and leave the command running.
func Signal(cmd *exec.Cmd, sig unix.Signal) error {
	if cmd.Process == nil {
		return os.ErrProcessDone
	}
	pid := cmd.Process.Pid
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", pid, pid))
	if errors.Is(err, os.ErrNotExist) {
		return os.ErrProcessDone
	}
	if err != nil {
		return err
	}
	children := strings.Fields(string(b))
	if len(children) == 0 { // still on its way in
		return cmd.Process.Signal(sig)
	}
	for _, c := range children {
		n, err := strconv.Atoi(c)
		if err != nil {
			return fmt.Errorf("signal command: child %q: %w", c, err)
		}
		if err := unix.Kill(n, sig); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("signal command: %w", err)
		}
	}
	return nil
}

// Run runs a shell script in the box as root and returns what it printed. An exit code other than 0 is an error that
// holds what it said.
func (b *Box) Run(ctx context.Context, script string, args ...string) (string, error) {
	cmd := b.Command(ctx, "sh", append([]string{"-euc", script, "sh"}, args...)...)
	var out bytes.Buffer
	cmd.Stdout = &out
	err := b.run(cmd)
	return out.String(), err
}

// run runs cmd, passes what it says on standard error on to the log, and puts it into the error.
func (b *Box) run(cmd *exec.Cmd) error {
	var said bytes.Buffer
	cmd.Stderr = &said
	err := cmd.Run()
	if said.Len() > 0 {
		b.log.Write(said.Bytes())
	}
	if err != nil {
		i := 0
		for i < len(cmd.Args) && cmd.Args[i] != "--" {
			i++
		}
		return fmt.Errorf("run %q in the box: %w: %s", cmd.Args[i+1:], err, bytes.TrimSpace(said.Bytes()))
	}
	return nil
}

// Shell runs an interactive shell in the box on this process's terminal, until the user leaves it. Its exit code is
// not an error.
func (b *Box) Shell(ctx context.Context) error {
	cmd := b.Command(ctx, "bash", "--rcfile", "/root/.boxrc", "-i")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	var exit *exec.ExitError
	if err := cmd.Run(); err != nil && !errors.As(err, &exit) {
		return fmt.Errorf("run shell in the box: %w", err)
	}
	return ctx.Err()
}
