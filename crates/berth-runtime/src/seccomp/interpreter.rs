//! The kernel's machine for filters, for tests: it checks a program as the kernel does and runs it.

use berth_sys::seccomp::{MAX_INSTRUCTIONS, SockFilter};

use super::assembler::{AND, JUMP, JUMP_EQUAL, JUMP_GREATER, JUMP_GREATER_OR_EQUAL, LOAD_WORD, RETURN};

/// What the kernel shows of a call (`struct seccomp_data`).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Call {
    pub(crate) number: u32,
    pub(crate) architecture: u32,
    pub(crate) arguments: [u64; 6],
}

/// Panics at what the kernel would refuse: jumps out of the program, an end that does not answer, loads outside the data.
pub(crate) fn check(program: &[SockFilter]) {
    assert!((1..=MAX_INSTRUCTIONS).contains(&program.len()), "{} instructions", program.len());
    for (place, instruction) in program.iter().enumerate() {
        let left = program.len() - place - 1;
        match instruction.code {
            LOAD_WORD => assert!(instruction.constant % 4 == 0 && instruction.constant < 64),
            AND | RETURN => {}
            JUMP => assert!((instruction.constant as usize) < left),
            JUMP_EQUAL | JUMP_GREATER | JUMP_GREATER_OR_EQUAL => {
                assert!((instruction.jump_true.max(instruction.jump_false) as usize) < left);
            }
            other => panic!("instruction {other:#x}"),
        }
    }
    assert_eq!(program.last().map(|last| last.code), Some(RETURN));
}

/// Runs a program; also tells how many instructions that took.
pub(crate) fn run(program: &[SockFilter], call: &Call) -> (u32, usize) {
    let mut accumulator = 0;
    let mut place = 0;
    for steps in 1.. {
        let SockFilter { code, jump_true, jump_false, constant } = program[place];
        place += 1;
        let holds = match code {
            LOAD_WORD => {
                accumulator = word(call, constant);
                continue;
            }
            AND => {
                accumulator &= constant;
                continue;
            }
            JUMP => {
                place += constant as usize;
                continue;
            }
            RETURN => return (constant, steps),
            JUMP_EQUAL => accumulator == constant,
            JUMP_GREATER => accumulator > constant,
            JUMP_GREATER_OR_EQUAL => accumulator >= constant,
            other => panic!("instruction {other:#x}"),
        };
        place += usize::from(if holds { jump_true } else { jump_false });
    }
    unreachable!("programs end");
}

#[expect(clippy::cast_possible_truncation, reason = "one half is what is asked for")]
fn word(call: &Call, offset: u32) -> u32 {
    match offset {
        0 => call.number,
        4 => call.architecture,
        offset => {
            let argument = call.arguments[(offset as usize - 16) / 8];
            if offset % 8 == 0 { argument as u32 } else { (argument >> 32) as u32 }
        }
    }
}
