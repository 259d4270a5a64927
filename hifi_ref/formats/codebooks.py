"""What the codebook formats share: the grids, the sign bytes, the sixteen unequal steps.

A **grid** is a table of rows of 8 or 4 magnitudes; a format stores a row's number instead of the magnitudes. The rows
were chosen by the authors of the formats as the commonest of all combinations, so they are facts, not a formula: they
stand at the end of this file, compressed. IQ1_S and IQ1_M use the same grid.

Signs are stored beside the row, one bit per weight. Where only 7 bits are kept for 8 signs, the eighth makes the number
of minus signs even; an encoder sees to it that this is so.

Reference: iq2xxs_grid, iq2xs_grid, iq2s_grid, iq3xxs_grid, iq3s_grid, iq1s_grid, ksigns_iq2xs, kvalues_iq4nl,
kvalues_fp4 (llama.cpp v0.5.0).
"""

from __future__ import annotations

import base64
import functools
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from hifi_ref import exact

if TYPE_CHECKING:
    from jaxtyping import Float32, Int8, Integer, UInt8

    from hifi_ref.exact import Array


# The steps of IQ4_NL and IQ4_XS: finer near zero, where most weights lie.
STEPS_IQ4 = np.array([-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113], np.int8)
# The steps of MXFP4 and NVFP4: twice the values of a 4-bit float with 2 exponent bits and 1 mantissa bit. Code 8, the
# float's -0, is +0 here.
STEPS_FP4 = np.array([0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12], np.int8)


# TABLES


@functools.cache
def grid(name: str, dtype: type = np.int8) -> np.ndarray:
    """The grid of a format: [rows, 8 or 4], magnitudes (IQ1_S: -1, 0, 1)."""
    width, values, packed = _GRIDS[name]
    columns = np.frombuffer(zlib.decompress(base64.b85decode(packed)), np.uint8)
    table: np.ndarray = np.array(values, dtype)[columns.reshape(width, -1).T]
    table.setflags(write=False)
    return table


@functools.cache
def _signs(dtype: type) -> np.ndarray:
    """[256, 8]: for each sign byte +1 or -1 in dtype; for uint32 the sign bit of a float32."""
    minus = (np.arange(256)[:, None] >> np.arange(8)) & 1
    table: np.ndarray = (
        minus.astype(np.uint32) << np.uint32(31) if dtype is np.uint32 else (1 - 2 * minus).astype(dtype)
    )
    table.setflags(write=False)
    return table


@functools.cache
def _even_bytes() -> np.ndarray:
    """[128]: seven sign bits -> the byte whose top bit makes their number even."""
    return np.array([code | (code.bit_count() & 1) << 7 for code in range(128)], np.uint8)


def take(table: np.ndarray, index: Integer[Array, "*n"]) -> Array:
    """table[index], in the library of index, which must be within bounds."""
    return exact.library(index).take(table, index, axis=0, mode="clip")


def look_up(steps: Sequence[int] | Integer[np.ndarray, "k"], index: Integer[Array, "*n"]) -> Integer[Array, "*n"]:
    """steps[index] by a tree of selections, which vector units do without a table: [*n] -> [*n], of index's dtype."""
    lib = exact.library(index)
    level = [index.dtype.type(step) for step in steps]
    bit = 1
    while len(level) > 1:
        high = (index & index.dtype.type(bit)) != 0
        level += level[-1:] * (len(level) % 2)
        level = [a if a is b else lib.where(high, b, a) for a, b in zip(level[::2], level[1::2], strict=True)]
        bit *= 2
    return level[0]


def take_step(steps: Int8[np.ndarray, "16"], code: UInt8[Array, "*n"]) -> Int8[Array, "*n"]:
    """steps[code], as each lane does it best."""
    return look_up(steps, code.view(np.int8)) if exact.is_jax(code) else take(steps, code)


def complete_signs(code: Integer[Array, "*n"]) -> UInt8[Array, "*n"]:
    """Seven stored sign bits -> eight."""
    return take(_even_bytes(), code)


# VALUES


def signed_rows(name: str, index: Integer[Array, "..."], signs: UInt8[Array, "*n"]) -> Float32[Array, "*n 8"]:
    """The grid's rows, bit j of a sign byte negating the weight j. A row of 4 takes two indices a sign byte."""
    rows = take(grid(name, np.float32), index)
    flips = take(_signs(np.uint32), signs)
    return exact.from_bits(exact.bits(rows.reshape(flips.shape)) ^ flips)


def signed_codes(name: str, index: Integer[Array, "..."], signs: UInt8[Array, "*n"]) -> Int8[Array, "*n 8"]:
    """signed_rows as integers."""
    minus = take(_signs(np.int8), signs)
    return take(grid(name), index).reshape(minus.shape) * minus


# CODES


def nearest_step_iq4(x: Float32[Array, "*n"]) -> UInt8[Array, "*n"]:
    """Code of the step nearest to x, of two equally near the larger; 15 for NaN.

    Counting the midpoints that x is not below gives what comparing the two distances gives: next to a midpoint both
    differences are exact, since no midpoint has a smaller exponent than its distance to the steps.
    """
    x = exact.rounded(x)
    midpoints = (STEPS_IQ4[:-1].astype(np.float32) + STEPS_IQ4[1:].astype(np.float32)) / np.float32(2)
    code = (~(x < midpoints[0])).astype(np.uint8)
    for midpoint in midpoints[1:]:
        code = code + ~(x < midpoint)
    return code


def nearest_step_fp4(x: Float32[Array, "*n k"], d: Float32[Array, "*n"]) -> UInt8[Array, "*n k"]:
    """Code of the step that, times d >= 0, is nearest to x; of equals the first.

    Only steps with the sign of x can win. Distances are rounded: where x is so large that they are all the same, code 0
    is the first.
    """
    lib = exact.library(x)
    size = lib.abs(x)
    code, least = lib.zeros(x.shape, np.uint8), size
    for i in range(1, 8):
        distance = lib.abs(exact.mul(d, np.float32(STEPS_FP4[i]))[..., None] - size)
        nearer = distance < least
        code, least = lib.where(nearer, np.uint8(i), code), lib.where(nearer, distance, least)
    return lib.where((x < 0) & (code != 0), code | np.uint8(8), code)


# GRIDS: width of a row, the magnitudes, and the number of each magnitude in the list before, a byte per element, column
# after column; deflated, in base 85.

# fmt: off
_GRIDS: dict[str, tuple[int, tuple[int, ...], str]] = {
    "IQ2_XXS": (8, (8, 25, 43), (
        "c-qZUTXMuO2t&I6p&NrlNXFU6v>zoq8wUh3f*|7f1@k}FiR-jJ&Li!J1w)?0`1Cu)unf++>*2yB8=N!>*#RZynH>gQvygQ+l`x9y;mXQ"
        "TS9R%3Tp@NUSO|r5dnC1(+qVF$uLVHip<ul-UJUF!3zHXOm(@LrxMi=RRHX(MzedoFd3;g|lAmE_^x5}>rS$|32+4Yf+w*KsU%hE1G#z"
        "(W_3}!nrJw{Ky;o0`%C{GBwIF#Q9qHMszZ%QIQQasm<Xnf^4vz8h+&jj(Or4TeN{qG@X}_*IBE82bOuIS+#%R={*PV%&B&wbLg;<2uMy"
        "?8)mwN!bW*k~6Fju{n4CjVy4Oc1d{tR%s$CnYe5Hz@rZ^LmCIBgbHB0Q)u79ehPQWdit;;PaM!=v$HFA{f{OYjZ#o@IotuI<%tD2w~Z{"
        "k7o(<AeQ{<+E!0ocITZKQ(@3KQ#3P2L"
    )),
    "IQ2_XS": (8, (8, 25, 43), (
        "c-rMv3wFaW2m{^!(5peh#BtWH?LP0#>(a!=LI^oExYcKV=XK6NQx^Yu8y~Ejutto9+n->3EXNb?amt&E1(92=O^HV$ATZ#?G?sXQiO4M"
        "gV7dTXxfi>c*;)A1L&zYqDn1J2Oieb<eMx>KPK-b%(k&H|QwhMjsgmY}o#CvADinoLtW){hdd8++d6Urrlj{SozVjNn6~YBj7d7Ivsg$"
        "$X33UK6RVVGXLM%xJCSB8FS_lIgQ??1^ui0>z#K6KG)#8~sVQlJQRYLDA&C|Gddh!c<h;9XeM$2js)j{>1btIcGax^ck3Gwi30ATVi?M"
        "0)R=?siykP|!}xGNX(u4ZZqkh+dK%co5(g4&q^k=qIf@KfF;Nl9E&gtcnEr3`HkwWjK{etd@sh;~T4$!t0Ttu&vuvwH9qfhXL`ZKKqPl"
        "$EvOe2JwqJ4kkn)=uG)_w2o@%eMx^-OF2%HcLRhCdWh|OM0^=g}dA!M=XnTwkh{n#Ozw%mR(F5cOc4{J*XK#UTiLNnq4A>ir`7|EF8PU"
        "+st){ZJJc>ch7_89ZGzAKQUjZWY0eHSkB*xnOr9$$WD99en?y$?7D=(oxcTP7dgS9J0qvhhi?b^xV!Hnt}WhAy@A*?>jHlpex3NC%ni9"
        "2@*J{b+k<nGCOR|PlIXSeI{J%DKida4^_CwicwzX11J~n~R1e@>vv{@0uN{QG;o>CVVG>uVj{!S~=M?zP;cpuF>iE4X-plBDMeJV>|8o"
        "OBJU#$*wF?I"
    )),
    "IQ2_S": (8, (8, 25, 43), (
        "c-rk&i;}`13{3L>AAJIOYyz~k>Wp`D=x8CY%_cxenEX5c6NAu2I<Xa3V3~c{7Y)Op_zw5|86qN#{+|^eOOFpj@RCmnEpzPtX|6a&-hj*"
        "tlpu%MSo4PmK?KlP^B7A?lDTOKQ3nphm0)7CA(tLPa-Nc_K&g_#t7Ig_IN)qv5a(_{3m(RAl6K`y<L#&?sQFTiiX@oTh|ka-G-GlXIB$"
        "N`NtD<7pRwFw%ax)PM$ufHytaqL)F&!+apG`v_-J!cCmn6;2N}(z*>Dr;r{~p_)M)z86PxM8R!CPzKNlbNfQAxovTt%np7lbN-9Qxw0Y"
        "aES$)|)~#U4L)s4OD`$h-g#ZnhBOJm_epmU(OUR+FSz{Y7K*U|?h+iTzxKTuEhf_Rl!kb2crAb7y<BkX)oho5qV$?~<2wA*gVf^!tX1_"
        "E=z&QqHmIojNhV;{9);oF=HKY>80}7&~H7RozZVR_>tSP{<D<8rE<ijO{OChdGUUw%y-DHQP2Hll+_(LEIlgNzYYHGx-P$uqlh-DIBqu"
        "Yo*Gf&*TS2Q{lD#;IoFFVtXof1D}9Q3jo<O1#N=;SbVd$2P8C_PAf>6Yz!uTV8o6f@sNRkS+`wwNG%<5HZMfgoQ!OMQX~4PCVQqaF)A%"
        "1zRe&j@>fMLn=vt^I>6h7*#0sWl__l=#H}u{lQtMZwZHK7SF)82W1TaHY*#rs8qt39Z7zO0jdz2-Yz2mn(IGaL;v$2^C;Xv85^`$Ym1>"
        "ErGdYP(N3nCOpMwMu0<WZS_H11}5x2@bBUuFV)``$s_G2b4WLLmnrGk@(75XCO3pF`Nej|<pm<m}$6R3&_4sEu(gW^(N1eIMu8LGV}h$"
        "9#?Eqln1M(lIvP~Y?770RU=-)=!YpG9>_d6$C^hRow7e|**1#_WBepLKI&TJ@gEXsKQGlHgS$o~q}m2fD|`O{R~ysqdwSM<i{|t?5ME1"
        "HD#1p6<~T+BSD+x`L9lu;s6I7q{!PgWoyi$?+9wycy-Kh+k9BkJjuifLosL0=@;3UOIM9j6TyS-!S-B4Eg-{ui57c@cpFx%|`hjf9)Xr"
        "okRZ8_yJLX7Z("
    )),
    "IQ3_XXS": (4, (4, 12, 20, 28, 36, 44, 52, 62), (
        "c-ozj3vR<O3`6zT{cpS{J89CO!-}y8qRJF0Gh(6MVrri1yptzHXj6D=r*fR)9Sx<;G9=1%v3a6l>#lk6(<)>jX`1YVQeGpC&a{whNfo5"
        "habbzdEs{%u;VGxlCWUFaOLR7i2pZKH%CO{kDvio8Gsl5335%#ug<X;6jz6weT*ibs#g2;#g)$c1Q&M?Aq@L0<ce{1k)Sg~UM4fE<i@g"
        "4?+xZ-_JIRd0(CEn~RGmJ|v0hIslOd^3J8MhKpe44x0_NkCm+0DP9E$9+W|A+VCuc%6qV=>D0Kt=6%zbSZn7)p&*Q`cbH|Pbs!53m70X"
        "G;t2cPUkz0p31AJk#q74NJ|s$OFHc5+M}BYV-8^Z7xqO%B%KTk>z{cd+l_e<FTCenLIapYQ_}Pzq}"
    )),
    "IQ3_S": (4, (1, 3, 5, 7, 9, 11, 13, 15), (
        "c-p;_3zFk72t@ho{x{xkkR2!EY-)FEhLlqlf=7d7QOhN2QKIRBh2meMeQ=2{&CoQwFY$sWCdeJ{rd}boCNNA~1$kE3T!nB~J3JD@bbwH"
        "yq7+mw3GFl~mKQ>DB)DR!TwAEy8L1Kr*%X@C-bi{#X7*|ZG+9EG0)}Wj(1;@1I4R(rD>TRq=|=D?@#ZZ48FLjc$Uy`|vL8rbH9UzyltB"
        "i>8KT)WrEyTu39-bYTw*5J;IkOr^1)ght(u1jrbtldRj{}kXC&nixNr{62FlQ?Sx_EDVFwGG5j7-Aft5@Hn^QAP6On<AaRf#oY{jUJrZ"
        "g-)V3}2Gt?j4R1D<p3-a&|%l{4d5VP`d&K}9EzW;~gfTF7JCc&s7K*pS}Y)%Xq$-8sPtT*PF?KtxZmF@n}ZZ?=M?h{*QV_OdWQBNX0V4"
        "A6&HJ1c5py@gDd*{wUKHhPkGjNs1L+@r^>IqR4nA|ZhHO8ee)VY}4yqaZ(?b|L{+Hd#bD7u-l@4;1$RpR)8<rPFqFOUJx$#Ri6}$}9iQ"
        "^u_Fp`IE(I`LJqRhkdH@j{b%H3H!=^1HQ%9E%cRjC-2eq3*k=4Q|>N)pY~kv5r4)$2c5VJ>RS5(*`M{Vnf{E~Pndt(;{PoF!Rqg}KHDD"
        "}?iA+"
    )),
    "IQ1_S": (8, (-1, 0, 1), (
        "c-rk)iI&?i2!#3nk8UEaL6#k7lfAlj-zJugIEDd~3RIxCKl`+s`-hC>?IFg$c#!Y)w#*xQc)QcP*myM_$bB96CTYvt-Tn4{pL$GLGa*B"
        "Ah?JXd)ZKAsP13*17VH6rBV%D&VZmkC8iIFO^KrN*68??{8Oab3dMNfc9z*lSe1qXK-rp`aWX}0}bIJsz)VuznCk@}0wGJq1DQ+$OCG5"
        "1V($m|WZS>?h78ZXn#NQd<El2SnaEcB5s%Os=ZM1^N4ng9AeD5*aE=an`Vh#;uDgVUxfRH7`?L&g)30<g?0&u`Co-@zS-8SILBlmFHqI"
        "6UY#(DS8+(Ru9j+cz0f-H3Jo_K7;M^|8461jZRDC_3ZZ0`1qByOVK4z#4TcA*NysERE5-UcAsJn15I?;lpr@DP;n)~s4__<~<<f8@%lB"
        ")K;H^9oN$6FE4s>sFaTl}%*_BsgScp7kz3Fv!yr^;pm#3MP2zr652R*xdA}Q^-`=QbAM$&%S1EM-PgSk&Q4AA7aA`Zu4v+yFoItJIF<D"
        "hBeDttKy(sjmSEyuAZ@F69_&<eMQGrRV;aw<p4?oHK~z>V2`yQ@>xLEqxfKj1+8e@P|H%o&p?gXog|B<c+*_Nf^tKHz&JFv4MhVCR8JO"
        "k>k`8lU8KGo1IvN>O^gE+raHfuvTt9MXt8c-@6@^#!j`uRv6p6{v^En%ok)_Ct(yj0MpJb;=eg<k%J)iBp_F-EG$1x&A^V$Y1M&oskqj"
        "iXWW|R=&IlhDDxuInKpvV064;7U+zrLcaFfC*#5AF(WsVK0lUSvgSE_MlvwS1YGDzpbaT_Q0br+cvHhP}q0VZ36zf$ShEA<*6xv8u{zZ"
        "r)xPnl1{(LE~*K{F8tsAr23s;t=)ZhM3diAe}y=I7zS$D&l?^D#7si_SAL4$|-_GReguiJ}P*c`jFEo@X~vI3g98Acx&7^hMtl9?g>Zo"
        "ZN0MXQ{wDlzNk6?>s}5CtZdfX$oiyC)i-CHXY7nK}puF@|j2q)y(ybT*ej#>tT%0vgb3rRCs1%E9h_{)sEWXiGG@h#!&@SG;`C_DE@?}"
        "3G^c4^I&vAf;NbOI*@qq(p36R9t+f4Hx9P$9i0fRgd$@FZPi&|4!^5PEczM#QhD1eA?nB=G^%R7M<Rdh<dKwSmWuQi5|LAZ>fGEo3w|U"
        "<9%=1}H#Noh1se4O$wPe<0v+S4u!H?hnr^+^^`7q{m0$7lE(q;Msz}Tn$8>)0`G~hQ216=0y96Zfe0rwZrj-|2UeL953FFlNpyZoYECg"
        "=4)|itzr+vs?7m*05^ff<`u8($ZFiL2k&F$o|cU4e0j2I;XoTVvgM=QzyxLH|hvVqDbVJySR>#ul|MqW3di}w2}=xDT@u_o5_Y?Cx;*5"
        "zXkMT@wNP>t8=iH0Yd<{NbqoLND++H}%fCM9_oWO9-QU?%M1y@)K#?%~!sJS*%r80-luu8M3g+t9PQ%C`1$WBq3%;+ICr6L!`Q>IVQ81"
        "YxVR*rtiySaGVDpmf0Fv^SoEol~w8fD%ppP^bE60@FgWbyhAW()jf2<lc+{%xmH9*&SSZyC@;z@1j|e>MhrGCzw4RQAJJF*v_w9U)$>0"
        "+UH-DbKLV7<zb^!lZkv`nlJ<oH_293G$NcdvoAD2Nre0pSrz!UKlHXSNiQm)Z|>5w+NKrDCUa<A*6ClkF^})1;;q9?-5ggJ?83ShU0FJ"
        "CV4DazgyLM%R{ejmdzRfz*m?-<7+wc60kC8KSnL@2;|x85<`J*!(NcOzriH6pZf})5P_R$l{Vhu_uQtoWeJ9{O9lAWukgk;ii%IY(i7U"
        "+a5IuVTz~V-7?`XEy<+j9}q&H;T31`tF<*W}UySE;3_Mjm>BEWe<;=nErr^gO#=SGt}I(jc>VjPTj&*!oW$1b2v<gmDp`UCc^bIs-9yg"
        "b%&%J^d+&MA<mLOO@i=R5p_JI^?A#{6l^&tv;S@E^+12bG^?)H}E&Ph9%Sg^yfs@#i@MFSF<4gnXqPp2zMvU(UyaPiZe7!1XB_y_3doV"
        "8FZadNz&|)?e)+Kdi;PGYb9U3*R2`Ye9dn^S>ZJ?<=gILfNkd@YC@9@$vr$4f$PB{2sP`cc?$LO?}Cwf9}F>zT^*FdR<omTs`^X<Hfb>"
        "x~^+BUe|T~`J>Hs{jlpFOvpd-"
    )),
}
# fmt: on
