/* main.c - The cairn command. */
#include <stdio.h>

int main(void) {
    puts("cairn: no command is built yet");
    return 2;
}
